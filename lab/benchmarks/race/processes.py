"""Processes of contestants: started with a mark in their environment, by which all their descendants are found.

Their CPU is user and system time as Linux counts it, of children that ended included. Knows processes, not the race.
"""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

MARK = "RACE_CONTESTANT"  # a name beginning with PERFUSION_ would not reach the services
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
STOP_S = 10.0


def environment(mark: str, more: Mapping[str, str]) -> dict[str, str]:
    """Of a contestant's processes: one thread for what nobody set."""
    return dict(os.environ) | {"OMP_NUM_THREADS": "1", "PYTHONPATH": "."} | more | {MARK: _of_this_run(mark)}


def start(mark: str, command: Sequence[str], log: Path, more: Mapping[str, str], pipes: bool) -> subprocess.Popen[str]:
    """A process in a session of its own, its errors in a log; with pipes to speak through, or without."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as errors:
        return subprocess.Popen(
            command, env=environment(mark, more), stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipes else errors, stderr=errors, text=True, start_new_session=True,
        )  # fmt: skip


def marked(mark: str) -> list[int]:
    """Every process with this mark."""
    wanted, found = f"{MARK}={_of_this_run(mark)}".encode(), []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(OSError):
                if wanted in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
    return found


def cpu_s(pids: Sequence[int]) -> float:
    """What these have used so far, with their children that ended and were waited for."""
    return sum(sum(int(field) for field in found[11:15]) for pid in pids if (found := _stat(pid))) * TICK_S


def _of_this_run(mark: str) -> str:
    """Two runs side by side do not stop each other's."""
    return f"{os.getpid()}-{mark}"


def _stat(pid: int) -> list[int]:
    """The fields of /proc/PID/stat from the state on, the state as 0; none when the process is gone."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return [0, *(int(field) for field in fields[1:])]
    return []


def stop(mark: str) -> None:
    """Ends everything with this mark: asked, then killed."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + STOP_S
        for pid in marked(mark):
            with suppress(ProcessLookupError):
                os.kill(pid, how)
        while marked(mark) and time.monotonic() < until:
            time.sleep(0.1)
