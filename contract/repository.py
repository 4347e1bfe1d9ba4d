"""A model repository on disk: which releases lie in it, which one serves, whether their files are whole.

    <repository>/releases/<number>/       a release (contract/release.py); it exists once its manifest does
                          current         the live release's number: what services answer with
                          fallback        the number of the one before, to which a rollback goes back
                          rollout.json    what else draws candidates (contract/rollout.py)
                          history.jsonl   what served when, a line a change (deploy/releases/history.py)
                          verdicts/       of gates: R-offline.json, R-traffic.json
                          .lock           held by the one controller that loads and promotes
                          .state.lock     held while the files above change; a way back waits for this one alone

An export adds a release and touches none of these files; `deploy.releases` does. Knows files and hashes; not Triton.
"""

import fcntl
import hashlib
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from contract.errors import InputError, ManifestError
from contract.release import (
    MANIFEST,
    Manifest,
    current_file,
    current_number,
    model_dir,
    read_release,
    release_dir,
)
from contract.rollout import read_rollout

LOCK_WAIT_S, LOCK_POLL_S = 1.0, 0.05
# What a lock is for: loading and promoting, changing what serves, telling of it, adding a release.
CONTROL, STATE, ANNOUNCING, EXPORT = ".lock", ".state.lock", ".announcing.lock", ".export.lock"


class LockedError(InputError):
    """Another process holds the lock; the message names it."""


@dataclass(frozen=True)
class Repository:
    """Triton's model repository with its releases/ folder."""

    root: Path

    def release_dir(self, number: int) -> Path:
        return release_dir(self.root, number)

    def model_dir(self, model: str, number: int) -> Path:
        return model_dir(self.root, model, number)

    def numbers(self) -> list[int]:
        """All releases that an export has finished, oldest first."""
        found = (path.parent.name for path in (self.root / "releases").glob(f"*/{MANIFEST}"))
        return sorted(int(name) for name in found if name.isdigit())

    def live(self) -> int | None:
        """The release in service; None before the first one.

        Raises:
            ManifestError: the pointer names no number.
        """
        return current_number(self.root) if current_file(self.root).exists() else None

    def fallback(self) -> int | None:
        """The release that a rollback goes back to; None where there is none, or it serves already."""
        try:
            number = int(self._fallback_file.read_text())
        except (OSError, ValueError):
            return None
        return None if number == self.live() else number

    def needed(self) -> set[int]:
        """The releases that requests are served by, or that a rollback goes back to: they stay loaded.

        Raises:
            ManifestError: the pointer or the rollout cannot be read.
        """
        pointed = {number for number in (self.live(), self.fallback()) if number is not None}
        return pointed | read_rollout(self.root).releases

    def point(self, live: int, fallback: int | None) -> None:
        """Puts a release in service. The pointer moves last: a crash before that leaves the old one in service."""
        if fallback is None:
            self._fallback_file.unlink(missing_ok=True)
        else:
            write_durably(self._fallback_file, f"{fallback}\n")
        write_durably(current_file(self.root), f"{live}\n")

    def check(self, number: int, hashed: Callable[[Path], str] | None = None) -> Manifest:
        """Reads every file of a release and compares it with what the manifest says of it; `hashed` is `sha256`.

        Raises:
            InputError: a file is missing, changed or unreadable; says which, what was expected and what is there.
        """
        if number not in self.numbers():
            there = ", ".join(map(str, self.numbers())) or "none"
            raise ManifestError(f"there is no release {number} in {self.root} (there: {there})")
        directory = self.release_dir(number)
        manifest = read_release(directory).manifest
        if manifest.release != number:
            raise ManifestError(f"{directory / MANIFEST} says release {manifest.release}")
        _compare(directory, manifest.texts, hashed or sha256)
        for model, entry in manifest.models.items():
            _compare(self.model_dir(model, number), entry.files, hashed or sha256)
        return manifest

    def size_bytes(self, number: int) -> int:
        """What a release takes on disk, files that it shares with others included."""
        folders = [self.release_dir(number), *self.model_folders(number)]
        return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())

    def model_folders(self, number: int) -> list[Path]:
        """The folders of this number that models have."""
        return sorted(path for path in self.root.glob(f"*/{number}") if path.parent.name != "releases")

    @property
    def _fallback_file(self) -> Path:
        return self.root / "releases" / "fallback"

    @contextmanager
    def lock(
        self, name: str, doing: str, wait_s: float | None = None, say: Callable[[str], None] = lambda line: None
    ) -> Iterator[None]:
        """Holds the lock of that name, which ends with the process at the latest.

        Args:
            wait_s: longest wait for another process; LOCK_WAIT_S if not given.
            say: is told once whom a longer wait is for.

        Raises:
            LockedError: another process holds it.
        """
        wait_s = LOCK_WAIT_S if wait_s is None else wait_s
        with self._lock_file(name).open("a+", encoding="utf-8") as file:
            is_held = not _locked_within(file, min(wait_s, LOCK_WAIT_S))
            if is_held and wait_s > LOCK_WAIT_S:
                say(f"waiting up to {wait_s:g} s for {_text(file)}")
                is_held = not _locked_within(file, wait_s - LOCK_WAIT_S)
            if is_held:
                raise LockedError(f"{file.name} is held by {_text(file)}: wait until it ends, then try again")
            file.truncate(0)
            file.write(f"{doing} (process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%H:%M:%S')})")
            file.flush()
            yield
            file.truncate(0)

    def held_by(self, name: str) -> str:
        """What the holder of the lock of that name does; empty where nobody holds it."""
        with self._lock_file(name).open("a+", encoding="utf-8") as file:
            return "" if _locked_within(file, 0.0) else _text(file)

    def _lock_file(self, name: str) -> Path:
        path = self.root / "releases" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _locked_within(file: TextIO, limit_s: float) -> bool:
    """Takes the lock of an open file, which ends when it is closed; a question who holds it lasts a moment."""
    end = time.monotonic() + limit_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= end:
                return False
            time.sleep(LOCK_POLL_S)


def _text(file: TextIO) -> str:
    file.seek(0)
    return file.read().strip() or "another process"


def write_durably(path: Path, text: str) -> None:
    """Replaces a file whole: a reader, or a power loss, finds the old text or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.new")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
    sync(partial)
    os.replace(partial, path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Brings a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _compare(directory: Path, files: Mapping[str, str], hashed: Callable[[Path], str]) -> None:
    """Every file named is there with that SHA-256."""
    for name, expected in files.items():
        path = directory / name
        if not path.is_file():
            raise ManifestError(f"{path} is missing")
        if (found := hashed(path)) != expected:
            raise ManifestError(f"{path} has changed: expected SHA-256 {expected[:12]}…, found {found[:12]}…")
