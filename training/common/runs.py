"""The folder of a run: made before any work, and held by one process at a time.

The lock is the kernel's (flock): it ends with its process, however that dies, so no lock is ever stale. The text in
its file only tells who holds it. Knows folders and processes; nothing about what a run does in them.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from training.common.errors import ModelError

LOCK = "lock"  # the file in a held folder
_held: set[Path] = set()  # lock files of this process, which may enter again


class BusyError(ModelError):
    """Another process works in the folder."""


def make_run_dir(path: Path) -> None:
    """Makes the folder of a run before any long work.

    Raises:
        ModelError: it cannot be made or written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"{path} cannot be made: {error.strerror}") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise ModelError(f"{path} cannot be written to")


@contextmanager
def held(folder: Path, name: str = LOCK, *, wait: bool = False, unless: bool = False) -> Iterator[None]:
    """Makes the folder and keeps other processes out of it.

    Args:
        name: of the lock's file, where several things in one folder are held each by itself.
        wait: for a process that holds it, instead of the error.
        unless: true in the workers that a first one holds the folder for: they only enter.

    Raises:
        BusyError: another process holds it; names the process and its host.
        ModelError: the folder cannot be made or written to.
    """
    make_run_dir(folder)
    place = folder.resolve() / name
    if unless or place in _held:
        yield
        return
    descriptor = os.open(place, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        _lock(descriptor, folder, wait)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
        _held.add(place)
        try:
            yield
        finally:
            _held.discard(place)
    finally:
        os.close(descriptor)  # which unlocks; the file stays, or another process could lock a deleted one


def _lock(descriptor: int, folder: Path, wait: bool) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
        if not wait:
            raise BusyError(f"{holder} works in {folder}: wait for it, or choose another folder") from None
        print(f"{holder} works in {folder}; waiting for it")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
