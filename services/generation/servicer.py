"""GenerationService: requests checked and turned into work, and the outcome back into messages. Nothing else."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from perfusion.v1 import generation_service_pb2 as pb
from perfusion.v1.generation_service_pb2_grpc import GenerationServiceServicer

from services.generation import messages, requests
from services.generation.orders import Progress, Queued
from services.generation.reading import Reader
from services.generation.rounds import Rounds
from services.generation.suggestions import Suggester
from services.runtime.images import Decoder
from services.runtime.release import Releases


@dataclass(frozen=True)
class GenerationServicer(GenerationServiceServicer):
    """Errors are raised as they come; the runtime's interceptor gives them their status."""

    releases: Releases
    rounds: Rounds
    suggester: Suggester
    decoder: Decoder
    reader: Reader

    async def Generate(self, request: pb.GenerateRequest, context: object) -> AsyncGenerator[pb.GenerateResponse]:
        live = self.releases.current()
        order = await requests.order_of(request, live, self.decoder)
        async with aclosing(self.rounds.run(self.rounds.assigner.plan(order, live))) as events:
            async for event in events:
                if not isinstance(event, Queued | Progress):
                    unread = self.reader.unread(order, event.release)
                yield messages.response_of(event, unread)

    async def GetGroup(self, request: pb.GetGroupRequest, context: object) -> pb.GetGroupResponse:
        group_id, with_pictures = requests.group_query_of(request)
        group = await self.rounds.read(group_id, with_pictures=with_pictures)
        return pb.GetGroupResponse(group=messages.group_message(group, self.reader.unread(group, group.release)))

    async def ListGroups(self, request: pb.ListGroupsRequest, context: object) -> pb.ListGroupsResponse:
        user_id, page = requests.page_query_of(request)
        groups, last = await self.rounds.groups.page(user_id, page)
        unread = [self.reader.unread(group, group.release) for group in groups]
        return messages.page_message(user_id, groups, unread, last)

    async def SuggestPhrases(self, request: pb.SuggestPhrasesRequest, context: object) -> pb.SuggestPhrasesResponse:
        query, release = requests.suggestion_query_of(request), self.releases.current()
        found = await self.suggester.suggest(query.user_id, query.prompt, query.prefix, query.most, release)
        unread = self.reader.of_prompt(query.prompt, release, release.vocabulary)
        return messages.suggestions_message(found, release.number, unread)

    async def GetReleaseInfo(self, request: pb.GetReleaseInfoRequest, context: object) -> pb.GetReleaseInfoResponse:
        release = self.releases.get(requests.release_of(request))
        return pb.GetReleaseInfoResponse(info=messages.release_message(release, self.decoder.limits))
