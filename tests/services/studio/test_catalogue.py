"""The release as pages know it, while the platform is slow or gone."""

import asyncio
from unittest.mock import AsyncMock

import pytest
from perfusion.v1.release_pb2 import ReleaseInfo

from services.runtime.errors import Unavailable
from services.studio import catalogue
from services.studio.catalogue import Catalogue


async def test_only_who_looks_it_up_waits_for_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "AGAIN_S", 0.0)
    platform, answers = AsyncMock(), asyncio.Event()
    platform.release.return_value = ReleaseInfo(release=1)
    known = Catalogue(platform)
    assert (await known.release()).release == 1

    async def slowly() -> ReleaseInfo:
        await answers.wait()
        return ReleaseInfo(release=2)

    platform.release.side_effect = slowly
    looking = asyncio.create_task(known.release())
    await asyncio.sleep(0)
    assert (await asyncio.wait_for(known.release(), 5)).release == 1
    answers.set()
    assert (await looking).release == 2
    assert (await known.words("zh")).release.release == 2


async def test_the_last_answer_stands_while_the_platform_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalogue, "AGAIN_S", 0.0)
    platform = AsyncMock()
    platform.release.side_effect = Unavailable("gone")
    known = Catalogue(platform)
    with pytest.raises(Unavailable):
        await known.release()
    platform.release.side_effect = None
    platform.release.return_value = ReleaseInfo(release=1)
    await known.release()
    platform.release.side_effect = Unavailable("gone")
    assert (await known.release()).release == 1
