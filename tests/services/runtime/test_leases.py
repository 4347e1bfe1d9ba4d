"""A claim counts as given up when its process has ended, or when it has not moved for a lease on the watcher's own
clock; and for no other reason."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.runtime import leases
from services.runtime.leases import Watch, has_ended, new_token

ROOT = Path(__file__).parents[3]
ANOTHER_MACHINES = ["0123456789.1.2.3", "0f5c3d3e-7b1c-4a4e-9d5e-0123456789ab", "", "token"]


class Elapsed:
    """A monotonic clock that moves when it is told to."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


@pytest.mark.parametrize("holder", [new_token(), *ANOTHER_MACHINES], ids=["this process", *ANOTHER_MACHINES])
def test_a_claim_that_does_not_move_expires_after_a_lease_of_watching(holder: str) -> None:
    elapsed = Elapsed()
    watch = Watch(10.0, elapsed)
    assert not watch.has_expired("a", holder, 3)
    elapsed.s += 9.9
    assert not watch.has_expired("a", holder, 3)
    elapsed.s += 0.1
    assert watch.has_expired("a", holder, 3)


def test_each_beat_begins_the_lease_anew_and_so_does_another_holder() -> None:
    elapsed = Elapsed()
    watch = Watch(10.0, elapsed)
    for holder, beats in [("token", 3), ("token", 4), ("other", 4)]:
        assert not watch.has_expired("a", holder, beats)
        elapsed.s += 8.0
        assert not watch.has_expired("a", holder, beats)


def test_claims_are_watched_apart_and_forgotten_when_they_end() -> None:
    elapsed = Elapsed()
    watch = Watch(10.0, elapsed)
    watch.has_expired("a", "token", 1), watch.has_expired("b", "token", 1)
    elapsed.s += 10.0
    watch.keep({"a"})
    assert watch.has_expired("a", "token", 1)
    assert not watch.has_expired("b", "token", 1)  # seen for the first time again


def test_tokens_differ_and_fit_their_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = [new_token() for _ in range(1000)]
    assert len(set(tokens)) == 1000
    monkeypatch.setattr(os, "getpid", lambda: 2**22)  # the largest that Linux gives
    monkeypatch.setattr(leases, "_own_start", lambda _: 20 * 365 * 86_400 * 100)
    monkeypatch.setattr(leases, "_count", iter([leases._MOST_TOKENS - 1]))
    assert len(new_token()) <= 36


def test_the_claim_of_a_process_that_was_killed_has_ended_at_once_also_before_its_parent_has_noticed() -> None:
    """Stopped, it may go on and finish its work: then its lease counts."""
    code = "from services.runtime.leases import new_token; print(new_token(), flush=True); input()"
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    token, watch = process.stdout.readline().strip(), Watch(10.0)
    assert not has_ended(token)
    process.send_signal(signal.SIGSTOP)
    assert not watch.has_expired("a", token, 1)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and still to be reaped
    assert watch.has_expired("a", token, 1)
    process.communicate()
    assert has_ended(token)


def test_a_process_that_has_a_dead_ones_number_is_not_taken_for_it() -> None:
    machine, pid, start, count = new_token().split(".")
    assert not has_ended(".".join([machine, pid, start, count]))
    assert has_ended(".".join([machine, pid, f"{int(start, 16) - 1:x}", count]))


@pytest.mark.parametrize("token", ANOTHER_MACHINES)
def test_nothing_is_known_of_another_machines_processes(token: str) -> None:
    assert not has_ended(token)


def test_where_nothing_is_told_of_processes_only_the_lease_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(*_: object, **__: object) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", hidden)
    monkeypatch.setattr(leases, "_machine", leases._machine.__wrapped__)
    monkeypatch.setattr(leases, "_own_start", leases._own_start.__wrapped__)
    assert not has_ended(new_token())
    machine = leases._machine()
    monkeypatch.setattr(leases, "_machine", lambda: machine)
    assert not has_ended(new_token())
