"""One part as a process group of its own: started, found again by a later command, stopped gracefully.

Knows pid files and signals; does not know the process's work or health.
"""

import os
import signal
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.05


@dataclass(frozen=True)
class Process:
    """A pid file names the process together with its start time, so a recycled pid is never mistaken for it."""

    name: str
    pid_file: Path
    log_file: Path

    def start(self, command: list[str], environment: dict[str, str], cwd: Path) -> None:
        for path in (self.pid_file, self.log_file):
            path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            log.write(f"--- {time.strftime('%Y-%m-%dT%H:%M:%S%z')} start\n".encode())
            log.flush()
            pid = _spawn(command, environment, cwd, log.fileno())
        self.pid_file.write_text(f"{pid} {_start_time(pid)}\n")

    @property
    def pid(self) -> int | None:
        """The living process's id, or None."""
        try:
            pid, started = self.pid_file.read_text().split()
        except (OSError, ValueError):
            return None
        return int(pid) if _start_time(int(pid)) == started else None

    def stop(self, grace_s: float) -> bool:
        """SIGTERM, a wait, then SIGKILL to the whole group. True if SIGTERM was enough."""
        asked = self._signal(signal.SIGTERM)
        ended = self._wait(grace_s)
        self.kill()
        return asked and ended

    def kill(self) -> None:
        """Kills the whole group at once without warning, like a crash."""
        if self._signal(signal.SIGKILL, group=True):
            self._wait(5.0)
        self.pid_file.unlink(missing_ok=True)

    def tail(self, lines: int) -> list[str]:
        with suppress(OSError), self.log_file.open(errors="replace") as log:
            return [line.rstrip("\n") for line in deque(log, lines)]
        return []

    def _signal(self, number: signal.Signals, group: bool = False) -> bool:
        pid = self.pid
        if pid is None:
            return False
        with suppress(ProcessLookupError):
            (os.killpg if group else os.kill)(pid, number)
        return True

    def _wait(self, limit_s: float) -> bool:
        end = time.monotonic() + limit_s
        while self.pid is not None:
            if time.monotonic() > end:
                return False
            time.sleep(POLL_S)
        return True


def _spawn(command: list[str], environment: dict[str, str], cwd: Path, output: int) -> int:
    """Starts a session leader that outlives this command; not a Popen, which expects to reap its child.

    It gets none of this command's descriptors: it would hold a lock or a pipe of the caller's for as long as it runs.
    """
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the listing's own is gone by now
            if int(descriptor.name) > 2:
                os.set_inheritable(int(descriptor.name), False)
    change_directory = ["/bin/sh", "-c", 'cd "$0" && exec "$@"', str(cwd)]
    streams = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        *((os.POSIX_SPAWN_DUP2, output, n) for n in (1, 2)),
    ]
    return os.posix_spawn("/bin/sh", [*change_directory, *command], environment, file_actions=streams, setsid=True)


def _start_time(pid: int) -> str | None:
    """Clock ticks since boot at which the process started; None when it is gone or only waits to be reaped."""
    with suppress(ChildProcessError, OSError):
        os.waitpid(pid, os.WNOHANG)  # ours if this very command started it: a zombie would look alive
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]
