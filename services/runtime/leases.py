"""Leases without a calendar: whether the holder of a claim has gone is judged by watching, on one's own clock.

A holder counts beats in its claim's row. A process that wants the claim takes it over when it has itself seen the row
unchanged for a whole lease, by its monotonic clock. No two machines' clocks are compared, and a clock that is set back
or forward decides nothing. A holder that was only slow is fenced off: its writes ask for its token, which is gone.

A token names the process that made it. So where a holder ran on the same machine, beside this process or as the one
that was started before it, nobody waits for its lease once it has ended: the kernel says so. It knows Linux' /proc.
"""

import hashlib
import itertools
import os
import time
from collections.abc import Callable, Container
from functools import cache
from pathlib import Path
from uuid import uuid4

_MOST_TOKENS = 16**7  # of one process, before they come again; with it, a token has 35 characters at most
_count = itertools.count()


def new_token() -> str:
    """Whose a claim is: another one at each call, at most 36 characters."""
    return f"{_machine()}.{os.getpid():x}.{_own_start(os.getpid()):x}.{next(_count) % _MOST_TOKENS:x}"


def has_ended(token: str) -> bool:
    """Whether the process that made the token is known to have ended; of one on another machine, nothing is known."""
    machine, *rest = token.split(".")
    if machine != _machine():
        return False
    pid, start = (int(part, 16) for part in rest[:2])
    try:
        return _start(pid) != start
    except OSError:  # it is there, and hides when it started
        return False


@cache
def _machine() -> str:
    """This boot of this machine, and whose process numbers we see; where that is not told, this process alone."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        seen = f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        seen = str(uuid4())
    return hashlib.sha256(seen.encode()).hexdigest()[:10]


@cache
def _own_start(pid: int) -> int:
    try:
        return _start(pid) or 0
    except OSError:
        return 0


def _start(pid: int) -> int | None:
    """When a process started, in ticks since the boot; None when there is none, or only what is left of one.

    Raises:
        OSError: there is one, and this process may not know.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass  # another user's
    state, *fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    return None if state in "ZX" else int(fields[18])


class Watch:
    """What one process has seen of others' claims, by the claims' names; it forgets what `keep` does not name."""

    def __init__(self, lease_s: float, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._lease_s = lease_s
        self._monotonic_s = monotonic_s
        self._seen: dict[str, tuple[str, int, float]] = {}  # a claim's holder and beats, and when first seen so

    def has_expired(self, name: str, holder: str, beats: int) -> bool:
        """Whether the holder's process has ended, or its claim has not moved for a lease, as far as this one knows."""
        if has_ended(holder):
            return True
        *seen, since_s = self._seen.get(name, (None, 0, 0.0))
        if seen != [holder, beats]:
            self._seen[name] = (holder, beats, self._monotonic_s())
            return False
        return self._monotonic_s() - since_s >= self._lease_s

    def keep(self, names: Container[str]) -> None:
        """Forgets all other claims: they have ended."""
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}
