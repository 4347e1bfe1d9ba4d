"""GenerationService: requests checked and turned into work, and the outcome back into messages. Nothing else."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from perfusion.v1 import generation_service_pb2 as pb
from perfusion.v1.generation_service_pb2_grpc import GenerationServiceServicer

from services.generation import messages, requests
from services.generation.places import Places
from services.generation.rounds import Rounds
from services.generation.suggestions import Suggester
from services.runtime.images import ImageLimits
from services.runtime.release import Releases


@dataclass(frozen=True)
class GenerationServicer(GenerationServiceServicer):
    """Errors are raised as they come; the runtime's interceptor gives them their status."""

    releases: Releases
    rounds: Rounds
    suggester: Suggester
    limits: ImageLimits
    places: Places

    async def Generate(self, request: pb.GenerateRequest, context: object) -> AsyncGenerator[pb.GenerateResponse]:
        with self.places.taken():
            release = self.releases.current()
            # In a thread, because decoding a large reference image would block every other round.
            order = await asyncio.to_thread(requests.order_of, request, release, self.limits)
            async with aclosing(self.rounds.run(order, release)) as events:
                async for event in events:
                    yield messages.response_of(event)

    async def GetGroup(self, request: pb.GetGroupRequest, context: object) -> pb.GetGroupResponse:
        group_id, with_pictures = requests.group_query_of(request)
        group = await self.rounds.read(group_id, with_pictures=with_pictures)
        return pb.GetGroupResponse(group=messages.group_message(group))

    async def ListGroups(self, request: pb.ListGroupsRequest, context: object) -> pb.ListGroupsResponse:
        query = requests.page_query_of(request)
        groups, more = await self.rounds.groups.page(query.user_id, query.size, query.after)
        return messages.page_message(groups, is_last=not more)

    async def SuggestPhrases(self, request: pb.SuggestPhrasesRequest, context: object) -> pb.SuggestPhrasesResponse:
        query, release = requests.suggestion_query_of(request), self.releases.current()
        found = await self.suggester.suggest(query.user_id, query.prompt, query.prefix, query.most, release)
        return messages.suggestions_message(found, release.number)

    async def GetReleaseInfo(self, request: pb.GetReleaseInfoRequest, context: object) -> pb.GetReleaseInfoResponse:
        release = self.releases.get(requests.release_of(request))
        return pb.GetReleaseInfoResponse(info=messages.release_message(release, self.limits))
