"""Groups from the generation service over gRPC.

Knows its messages; the runtime handles deadlines, traces and errors. Does not know the checks on a group.
"""

import asyncio
from collections.abc import Collection, Mapping

import grpc
from perfusion.v1.generation_service_pb2 import GROUP_VIEW_BASIC, GetGroupRequest
from perfusion.v1.generation_service_pb2_grpc import GenerationServiceStub

from services.feedback.picks import ShownGroup
from services.feedback.ports import Groups
from services.runtime.clients import call, check_serving
from services.runtime.errors import NotFound

# Its health needs what a group without pictures needs; that of GetGroup would include the object store.
_AT_ONCE = 8  # calls; the other service has a limit of its own
_NAME, _METHOD = "generation service", "perfusion.v1.GenerationService/ListGroups"


class GrpcGroups(Groups):
    """Groups behind a channel."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._channel = channel
        self._stub = GenerationServiceStub(channel)
        self._timeout_s = timeout_s
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def get(self, group_ids: Collection[str]) -> Mapping[str, ShownGroup]:
        found = await asyncio.gather(*map(self._get, group_ids))
        return {group.group_id: group for group in found if group is not None}

    async def _get(self, group_id: str) -> ShownGroup | None:
        request = GetGroupRequest(group_id=group_id, view=GROUP_VIEW_BASIC)  # ids are compared, no pictures seen
        try:
            async with self._places:
                group = (await call(self._stub.GetGroup, request, name=_NAME, timeout_s=self._timeout_s)).group
        except NotFound:
            return None
        image_ids = tuple(candidate.image_id for candidate in group.candidates)
        return ShownGroup(group.group_id, group.user_id, group.release, image_ids)

    async def check(self) -> None:
        await check_serving(self._channel, _METHOD, name=_NAME, timeout_s=self._timeout_s)
