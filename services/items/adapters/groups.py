"""Groups of the generation service: whose they are, and their pictures."""

from collections.abc import Collection

import grpc

from services.items.ports import Groups
from services.runtime.errors import NotFound
from services.runtime.groups import GeneratedGroups


class GrpcGroups(Groups):
    """Groups behind a channel."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._groups = GeneratedGroups(channel, timeout_s=timeout_s)

    async def images(self, group_id: str) -> tuple[str, Collection[str]]:
        try:
            group = await self._groups.get(group_id)
        except NotFound as error:
            raise NotFound(f"terms.group_id: there is no group {group_id}", field="terms.group_id") from error
        return group.user_id, {candidate.image_id for candidate in group.candidates}

    async def check(self) -> None:
        await self._groups.check()
