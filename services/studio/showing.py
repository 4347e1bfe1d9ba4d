"""A group's pictures, for the merchant whose group it is and, by a link, for whoever has it.

Groups that were just looked at are remembered for a minute, each with its merchant: a page shows all pictures of one.
It knows no HTTP.
"""

import asyncio
import time
from collections import OrderedDict

from perfusion.v1.group_pb2 import Group

from services.runtime.errors import NotFound
from services.studio.ports import Platform

REMEMBERED_S = 60.0
Key = tuple[str, str]  # merchant, group


class Pictures:
    """Args:
    most_bytes: of pictures remembered.
    """

    def __init__(self, platform: Platform, most_bytes: int = 64 * 2**20) -> None:
        self._platform = platform
        self._most_bytes = most_bytes
        self._bytes = 0
        self._known: OrderedDict[Key, tuple[float, dict[str, bytes]]] = OrderedDict()  # the oldest first
        self._asking: dict[Key, asyncio.Task[dict[str, bytes]]] = {}

    async def png(self, user_id: str, group_id: str, image_id: str) -> bytes:
        """A picture of the merchant's; NotFound for any other, and for one that the store has lost."""
        key = (user_id, group_id)
        self._forget()
        pictures = self._known[key][1] if key in self._known else await self._asked(key)
        png = pictures.get(image_id)
        if not png:
            raise NotFound("there is no such picture", field="image_id")
        return png

    async def _asked(self, key: Key) -> dict[str, bytes]:
        """Once for all pictures of a page, which are asked for at the same time."""
        if key not in self._asking:
            task = self._asking[key] = asyncio.create_task(self._read(key))
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        return await asyncio.shield(self._asking[key])

    async def _read(self, key: Key) -> dict[str, bytes]:
        return self.remember(await self._platform.group(*key, with_pictures=True))

    def remember(self, group: Group) -> dict[str, bytes]:
        """A group that is about to be looked at; returns its pictures."""
        key = (group.user_id, group.group_id)
        pictures = {candidate.image_id: candidate.png for candidate in group.candidates}
        if key not in self._known and all(pictures.values()):  # what is lost may be found again
            self._known[key] = time.monotonic(), pictures
            self._bytes += _size(pictures)
            self._forget()
        return pictures

    def _forget(self) -> None:
        """What is old, and what there is no room for."""
        while self._known:
            since, pictures = next(iter(self._known.values()))
            if self._bytes <= self._most_bytes and time.monotonic() - since < REMEMBERED_S:
                return
            self._known.popitem(last=False)
            self._bytes -= _size(pictures)


def _size(pictures: dict[str, bytes]) -> int:
    return sum(map(len, pictures.values()))
