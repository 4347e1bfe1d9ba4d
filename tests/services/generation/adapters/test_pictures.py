"""Pictures keep their bytes under the name of their content."""

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from services.generation.adapters.pictures import FsspecPictures
from services.runtime.errors import Unavailable

PNG = b"not really a picture"


@pytest_asyncio.fixture
async def pictures(tmp_path: Path) -> AsyncIterator[FsspecPictures]:
    store = FsspecPictures(f"file://{tmp_path}/objects", timeout_s=5)
    yield store
    await store.close()


async def test_a_picture_is_read_back_and_named_by_its_hash(pictures: FsspecPictures, tmp_path: Path) -> None:
    uri = await pictures.put(PNG)
    assert await pictures.get(uri) == PNG
    assert hashlib.sha256(PNG).hexdigest() in uri
    assert await pictures.put(PNG) == uri
    assert len(list((tmp_path / "objects").rglob("*.png*"))) == 1  # no half-written file either


async def test_a_picture_that_is_not_there_is_unavailable(pictures: FsspecPictures, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="object store"):
        await pictures.get(f"file://{tmp_path}/objects/ab/none.png")


async def test_a_store_that_takes_no_writes_fails_its_check(pictures: FsspecPictures, tmp_path: Path) -> None:
    await pictures.check()
    blocked = FsspecPictures(f"file://{tmp_path}/file/objects", timeout_s=5)
    (tmp_path / "file").write_bytes(b"in the way")
    with pytest.raises(Unavailable):
        await blocked.check()
    await blocked.close()
