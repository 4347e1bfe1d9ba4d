"""The release in service, as the pages need it: looked up now and then, not for every page."""

import asyncio
import time

from perfusion.v1.release_pb2 import ReleaseInfo

from services.runtime.errors import ServiceError
from services.studio.languages import Words
from services.studio.ports import Platform

AGAIN_S = 15.0


class Catalogue:
    """While the platform does not answer, the last answer stands."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._release: ReleaseInfo | None = None
        self._words: dict[str, Words] = {}
        self._looked = 0.0
        self._looking = asyncio.Lock()

    async def release(self) -> ReleaseInfo:
        """The release in service, as of a few seconds ago; only who looks it up waits for the platform."""
        if self._release is not None and self._looking.locked():
            return self._release
        async with self._looking:
            if self._release is None or time.monotonic() - self._looked > AGAIN_S:
                try:
                    found = await self._platform.release()
                except ServiceError:
                    if self._release is None:
                        raise
                    found = self._release
                if found != self._release:
                    self._release = found
                    self._words.clear()
                self._looked = time.monotonic()
            return self._release

    async def words(self, tag: str) -> Words:
        """What it calls its phrases in a language."""
        release = await self.release()
        if tag not in self._words:
            self._words[tag] = Words(release, tag)
        return self._words[tag]
