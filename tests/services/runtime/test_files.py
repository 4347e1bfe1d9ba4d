"""A file is written whole or not at all, and nothing is left beside it."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.runtime.files import make_folder, write_durably


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Writes beyond this size fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_is_made_with_its_folders_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    for content in (b"first", b"second"):
        write_durably(path, content, tmp_path / "scratch" / "new")
        assert path.read_bytes() == content
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_write_that_fails_leaves_the_old_content_and_no_scratch(tmp_path: Path) -> None:
    path, scratch = tmp_path / "file", tmp_path / "new"
    write_durably(path, b"old", scratch)
    with files_of_at_most(1000), pytest.raises(OSError, match="too large"):
        write_durably(path, bytes(2000), scratch)
    assert path.read_bytes() == b"old"
    assert not scratch.exists()


def test_content_is_on_disk_before_its_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a power loss would find, by the order of the system's calls."""
    path, scratch, done = tmp_path / "folder" / "file", tmp_path / "new", list[str]()
    make_folder(path.parent)
    sync = os.fsync

    def fsync(descriptor: int) -> None:
        synced = os.readlink(f"/proc/self/fd/{descriptor}")
        done.append(f"{Path(synced).name} synced, file {'there' if path.exists() else 'not there'}")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_durably(path, b"content", scratch)
    assert done == ["new synced, file not there", "folder synced, file there"]


def test_new_folders_are_on_disk_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    make_folder(tmp_path / "a" / "b")
    assert synced == [str(tmp_path), str(tmp_path / "a")]
