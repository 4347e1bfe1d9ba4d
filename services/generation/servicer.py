"""GenerationService: requests checked and turned into work, and the outcome back into messages. Nothing else."""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from perfusion.v1 import generation_service_pb2 as pb
from perfusion.v1.generation_service_pb2_grpc import GenerationServiceServicer

from services.generation.messages import group_message, response_of
from services.generation.rounds import Rounds
from services.generation.suggestions import Suggester
from services.generation.validation import order_of, page_of, suggestion_query_of
from services.runtime.errors import ResourceExhausted
from services.runtime.fields import Fields
from services.runtime.images import ImageLimits
from services.runtime.release import Releases

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]


@dataclass
class Places:
    """How many rounds run at once. Their own limit, so that a full house can still look at its groups and pick."""

    limit: int
    used: int = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """One place while inside; ResourceExhausted when there is none."""
        if self.used >= self.limit:
            raise ResourceExhausted(f"more than {self.limit} rounds in flight")
        self.used += 1
        try:
            yield
        finally:
            self.used -= 1


@dataclass(frozen=True)
class GenerationServicer(GenerationServiceServicer):
    """Errors are raised as they come; the runtime's interceptor gives them their status."""

    releases: Releases
    rounds: Rounds
    suggester: Suggester
    limits: ImageLimits
    places: "Places"

    async def Generate(self, request: pb.GenerateRequest, context: "Context") -> AsyncGenerator[pb.GenerateResponse]:
        with self.places.taken():
            async with aclosing(self._generate(request)) as responses:
                async for response in responses:
                    yield response

    async def _generate(self, request: pb.GenerateRequest) -> AsyncGenerator[pb.GenerateResponse]:
        release = self.releases.current()
        # In a thread, because decoding a large reference image would hold up every other round.
        order = await asyncio.to_thread(order_of, request, release, self.limits)
        async with aclosing(self.rounds.run(order, release)) as events:
            async for event in events:
                yield response_of(event)

    async def GetGroup(self, request: pb.GetGroupRequest, context: "Context") -> pb.GetGroupResponse:
        fields = Fields()
        group_id = fields.uuid(request.group_id, "group_id")
        fields.done()
        return pb.GetGroupResponse(group=group_message(await self.rounds.read(group_id)))

    async def ListGroups(self, request: pb.ListGroupsRequest, context: "Context") -> pb.ListGroupsResponse:
        user_id, page_size = page_of(request)
        groups, next_token = await self.rounds.groups.list(user_id, page_size, request.page_token)
        return pb.ListGroupsResponse(groups=map(group_message, groups), next_page_token=next_token)

    async def SuggestPhrases(self, request: pb.SuggestPhrasesRequest, context: "Context") -> pb.SuggestPhrasesResponse:
        user_id, limit = suggestion_query_of(request)
        release = self.releases.current()
        found = await self.suggester.suggest(user_id, request.prompt, request.prefix, limit, release)
        suggestions = [
            pb.PhraseSuggestion(phrase=each.phrase.text, kind=each.phrase.kind, score=each.score) for each in found
        ]
        return pb.SuggestPhrasesResponse(suggestions=suggestions, release=release.number)
