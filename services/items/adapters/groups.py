"""Groups of the generation service over gRPC: whose they are, and their pictures."""

from collections.abc import Collection

import grpc
from perfusion.v1.generation_service_pb2 import GROUP_VIEW_BASIC, GetGroupRequest
from perfusion.v1.generation_service_pb2_grpc import GenerationServiceStub

from services.items.ports import Groups
from services.runtime.clients import call, check_serving
from services.runtime.errors import NotFound

# Its health needs what a group without pictures needs; that of GetGroup would include the object store.
_NAME, _METHOD = "generation service", "perfusion.v1.GenerationService/ListGroups"


class GrpcGroups(Groups):
    """Groups behind a channel."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._channel = channel
        self._stub = GenerationServiceStub(channel)
        self._timeout_s = timeout_s

    async def images(self, group_id: str) -> tuple[str, Collection[str]]:
        request = GetGroupRequest(group_id=group_id, view=GROUP_VIEW_BASIC)
        try:
            group = (await call(self._stub.GetGroup, request, name=_NAME, timeout_s=self._timeout_s)).group
        except NotFound as error:
            raise NotFound(f"terms.group_id: there is no group {group_id}", field="terms.group_id") from error
        return group.user_id, {candidate.image_id for candidate in group.candidates}

    async def check(self) -> None:
        await check_serving(self._channel, _METHOD, name=_NAME, timeout_s=self._timeout_s)
