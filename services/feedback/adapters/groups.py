"""Groups from the generation service. Does not know the checks on a group."""

import asyncio
from collections.abc import Collection, Mapping

import grpc

from services.feedback.picks import ShownGroup
from services.feedback.ports import Groups
from services.runtime.errors import NotFound
from services.runtime.groups import GeneratedGroups

_AT_ONCE = 8  # calls; the other service has a limit of its own


class GrpcGroups(Groups):
    """Groups behind a channel."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._groups = GeneratedGroups(channel, timeout_s=timeout_s)
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def get(self, group_ids: Collection[str]) -> Mapping[str, ShownGroup]:
        found = await asyncio.gather(*map(self._get, group_ids))
        return {group.group_id: group for group in found if group is not None}

    async def _get(self, group_id: str) -> ShownGroup | None:
        try:
            async with self._places:
                group = await self._groups.get(group_id)
        except NotFound:
            return None
        image_ids = tuple(candidate.image_id for candidate in group.candidates)
        return ShownGroup(group.group_id, group.user_id, group.release, image_ids)

    async def check(self) -> None:
        await self._groups.check()
