"""Pictures are kept under the name of their content, and never given back as anything else."""

import asyncio
import errno
import hashlib
import os
import shutil
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.generation.adapters.pictures import FsspecPictures
from services.generation.pictures import SCRATCH, Loss, object_name
from services.runtime.errors import Unavailable
from tests.services.runtime.test_files import files_of_at_most

PNG = b"not really a picture"
OTHER = b"another picture"


@pytest_asyncio.fixture
async def pictures(tmp_path: Path) -> AsyncIterator[FsspecPictures]:
    store = FsspecPictures(f"file://{tmp_path}/objects", timeout_s=5)
    yield store
    await store.close()


@pytest_asyncio.fixture
async def any_store(place: str) -> AsyncIterator[FsspecPictures]:
    """A store on the machine's own disk, and one in a bucket."""
    store = FsspecPictures(f"{'' if '://' in place else 'file://'}{place}/objects", timeout_s=5)
    yield store
    await store.close()


def file_of(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


async def test_a_picture_is_read_back_and_named_by_its_hash(any_store: FsspecPictures) -> None:
    uri = await any_store.put(PNG)
    assert await any_store.get(uri) == PNG
    assert hashlib.sha256(PNG).hexdigest() in uri
    assert await any_store.put(PNG) == uri
    assert await any_store.get(uri) == PNG


async def test_nothing_lies_beside_a_picture(pictures: FsspecPictures, tmp_path: Path) -> None:
    await asyncio.gather(*(pictures.put(PNG) for _ in range(8)))
    assert files_in(tmp_path / "objects") - {".lock"} == {object_name(PNG)}


async def test_a_picture_that_the_store_does_not_have_is_missing(any_store: FsspecPictures) -> None:
    uri = await any_store.put(PNG)
    assert await any_store.get(uri.replace(object_name(PNG), object_name(OTHER))) is Loss.MISSING
    assert await any_store.get(uri) == PNG


def to_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()
    (path / "file").write_bytes(PNG)


def to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut off": lambda path: path.write_bytes(PNG[:-1]),
    "longer": lambda path: path.write_bytes(PNG + b"\0"),
    "one bit": lambda path: path.write_bytes(bytes([PNG[0] ^ 1]) + PNG[1:]),
    "another picture": lambda path: path.write_bytes(OTHER),
    "a folder": to_directory,
    "a link to itself": to_itself,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_damaged_picture_is_never_given_and_storing_it_again_repairs_it(
    pictures: FsspecPictures, damage: Callable[[Path], object]
) -> None:
    uri, other = await pictures.put(PNG), await pictures.put(OTHER)
    damage(file_of(uri))
    assert await pictures.get(uri) is Loss.DAMAGED
    assert await pictures.get(other) == OTHER
    assert await pictures.put(PNG) == uri
    assert await pictures.get(uri) == PNG


async def test_a_picture_that_may_not_be_read_is_damaged(
    any_store: FsspecPictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = await any_store.put(PNG)

    def refuse(path: str) -> bytes:  # as root, who runs tests in containers, may read everything
        raise PermissionError(errno.EACCES, "refused", path)

    monkeypatch.setattr(any_store._fs, "cat_file", refuse)
    assert await any_store.get(uri) is Loss.DAMAGED


async def test_a_lost_picture_is_repaired_while_it_is_remembered(tmp_path: Path) -> None:
    store = FsspecPictures(f"file://{tmp_path}", timeout_s=5, remembered_bytes=len(PNG) + len(OTHER))
    uri, other = await store.put(PNG), await store.put(OTHER)
    for lose in (Path.unlink, *DAMAGES.values()):
        lose(file_of(uri))
        assert await store.get(uri) == PNG
        assert file_of(uri).read_bytes() == PNG
    await store.put(b"one byte more than is remembered"[: len(OTHER)])  # and the oldest is forgotten
    file_of(uri).unlink()
    file_of(other).unlink()
    assert await store.get(uri) is Loss.MISSING
    assert await store.get(other) == OTHER
    await store.close()


async def test_a_store_that_is_not_there_has_lost_no_picture(pictures: FsspecPictures, tmp_path: Path) -> None:
    uri = await pictures.put(PNG)
    shutil.rmtree(tmp_path / "objects")
    with pytest.raises(Unavailable, match="object store"):
        await pictures.get(uri)
    with pytest.raises(Unavailable, match="object store"):
        await pictures.check_reads()


async def test_a_fault_of_the_store_itself_is_no_damage(
    pictures: FsspecPictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = await pictures.put(PNG)

    def fail(path: str) -> bytes:
        raise ConnectionResetError(errno.ECONNRESET, "reset")

    monkeypatch.setattr(pictures._fs, "cat_file", fail)
    with pytest.raises(Unavailable, match="object store"):
        await pictures.get(uri)


async def test_a_store_that_hangs_is_unavailable_in_time(tmp_path: Path) -> None:
    store = FsspecPictures(f"file://{tmp_path}", timeout_s=0.5)
    uri = await store.put(PNG)
    file_of(uri).unlink()
    os.mkfifo(file_of(uri))  # a read waits until somebody writes
    with pytest.raises(Unavailable, match="does not answer"):
        await store.get(uri)
    with file_of(uri).open("wb"):
        await store.close()


async def test_a_full_store_says_so_and_keeps_no_scratch(pictures: FsspecPictures, tmp_path: Path) -> None:
    with files_of_at_most(1000):
        for n in range(3):
            with pytest.raises(Unavailable, match="is full"):
                await pictures.put(bytes([n]) * 2000)
        with pytest.raises(Unavailable, match="is full"):
            await pictures.check()
        await pictures.check_reads()
    assert files_in(tmp_path / "objects") <= {".lock"}
    await pictures.check()


async def test_a_store_with_no_room_for_a_round_is_full(
    pictures: FsspecPictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    def usage(path: str) -> Any:
        return shutil._ntuple_diskusage(100, 99, free)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    free = 2**20
    await pictures.check()
    await pictures.put(bytes(2**17))  # a round of these needs more
    with pytest.raises(Unavailable, match="is full"):
        await pictures.check()


async def test_a_check_leaves_nothing(any_store: FsspecPictures) -> None:
    for _ in range(3):
        await any_store.check()
        await any_store.check_reads()
    assert await any_store.folder(SCRATCH) == ()


async def test_a_store_that_gives_other_bytes_fails_its_check(
    any_store: FsspecPictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(any_store._fs, "cat_file", lambda path: b"")
    with pytest.raises(Unavailable, match="other bytes"):
        await any_store.check()


async def test_checks_at_once_share_one_probe_also_while_it_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, go, begun = FsspecPictures(f"file://{tmp_path}", timeout_s=0.3), threading.Event(), list[str]()

    def hang(path: str) -> bytes:
        begun.append(path)
        go.wait(60)
        return bytes(4096)

    monkeypatch.setattr(store._fs, "cat_file", hang)
    for _ in range(3):
        with pytest.raises(Unavailable):
            await store.check()
    go.set()
    assert len(begun) == 1
    await store.close()


async def test_a_store_that_takes_no_writes_fails_its_check(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"in the way")
    blocked = FsspecPictures(f"file://{tmp_path}/file/objects", timeout_s=5)
    for check in (blocked.check, blocked.check_reads):
        with pytest.raises(Unavailable):
            await check()
    await blocked.close()


async def test_what_lies_in_a_folder_is_told_with_its_age(any_store: FsspecPictures) -> None:
    before = await any_store.now_s()
    uri = await any_store.put(PNG)
    name = object_name(PNG)
    [found] = await any_store.folder(name[:2])
    assert (found.name, found.uri) == (name, uri)
    assert before <= found.modify_time_s <= await any_store.now_s()
    assert await any_store.folder("zz") == ()


async def test_only_what_nobody_wrote_since_is_deleted(any_store: FsspecPictures) -> None:
    uri = await any_store.put(PNG)
    before = await any_store.now_s() - 60
    assert not await any_store.delete(object_name(PNG), not_after_s=before)
    assert await any_store.get(uri) == PNG
    assert await any_store.delete(object_name(PNG), not_after_s=await any_store.now_s())
    assert await any_store.get(uri) is Loss.MISSING
    assert not await any_store.delete(object_name(PNG), not_after_s=await any_store.now_s())


async def test_a_picture_stored_again_is_young_again(pictures: FsspecPictures) -> None:
    uri = await pictures.put(PNG)
    os.utime(file_of(uri), (1, 1))
    await pictures.put(PNG)
    assert not await pictures.delete(object_name(PNG), not_after_s=await pictures.now_s() - 60)


async def test_a_picture_stored_in_the_moment_of_its_deletion_stays(
    pictures: FsspecPictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri, other = await pictures.put(PNG), FsspecPictures(f"file://{pictures._root}", timeout_s=5)
    age, storing = pictures._fs.info, list[threading.Thread]()

    def age_while_another_stores(path: str, refresh: bool) -> Any:
        old = age(path)
        storing.append(threading.Thread(target=other._put, args=(object_name(PNG), PNG)))
        storing[0].start()
        storing[0].join(0.3)
        return old

    now_s = await pictures.now_s()
    monkeypatch.setattr(pictures._fs, "info", age_while_another_stores)
    assert await pictures.delete(object_name(PNG), not_after_s=now_s)
    storing[0].join()
    assert await pictures.get(uri) == PNG
    await other.close()
