"""Groups of the generation service over gRPC, without their pictures: what other services ask of it.

Knows its messages; does not know what a group is asked for.
"""

import grpc
from perfusion.v1.generation_service_pb2 import GROUP_VIEW_BASIC, GetGroupRequest
from perfusion.v1.generation_service_pb2_grpc import GenerationServiceStub
from perfusion.v1.group_pb2 import Group

from services.runtime.clients import call, check_serving

# Its health needs what a group without pictures needs; that of GetGroup would include the object store.
_NAME, _METHOD = "generation service", "perfusion.v1.GenerationService/ListGroups"


class GeneratedGroups:
    """Groups behind a channel."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._channel = channel
        self._stub = GenerationServiceStub(channel)
        self._timeout_s = timeout_s

    async def get(self, group_id: str) -> Group:
        """A group with its candidates' ids; raises NotFound, or Unavailable."""
        request = GetGroupRequest(group_id=group_id, view=GROUP_VIEW_BASIC)
        return (await call(self._stub.GetGroup, request, name=_NAME, timeout_s=self._timeout_s)).group

    async def check(self) -> None:
        """Returns when the generation service can tell of groups; raises Unavailable."""
        await check_serving(self._channel, _METHOD, name=_NAME, timeout_s=self._timeout_s)
