"""Process groups of the local cluster: found again, stopped with grace, killed whole, never mistaken for others."""

import fcntl
import os
import sys
from pathlib import Path

import pytest

from deploy.local.process import Process
from tests.integration.client import wait_until

STUBBORN = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("child", child.pid, flush=True)
time.sleep(60)
"""
LIMIT_S = 30.0  # of a busy machine
POLITE = "import time; print('up', flush=True); time.sleep(60)"


@pytest.fixture
def process(tmp_path: Path) -> Process:
    return Process("part", tmp_path / "pids" / "part.pid", tmp_path / "logs" / "part.log")


def start(process: Process, script: str) -> None:
    process.start([sys.executable, "-c", script], dict(os.environ), Path.cwd())
    wait_until(lambda: len(process.tail(5)) > 1, LIMIT_S)


def test_a_later_command_finds_the_process_by_its_pid_file(process: Process) -> None:
    start(process, POLITE)
    again = Process(process.name, process.pid_file, process.log_file)
    assert again.pid == process.pid is not None
    assert again.stop(LIMIT_S)
    assert process.pid is None


def test_a_recycled_pid_is_not_taken_for_the_process(process: Process) -> None:
    process.pid_file.parent.mkdir(parents=True)
    process.pid_file.write_text(f"{os.getpid()} 12345\n")
    assert process.pid is None


def test_a_process_that_ignores_the_request_is_killed_with_its_children(process: Process) -> None:
    start(process, STUBBORN)
    child = int(process.tail(1)[0].split()[1])
    assert not process.stop(0.3)
    assert process.pid is None
    wait_until(lambda: not _runs(child), LIMIT_S)


def test_a_process_that_ended_by_itself_is_gone(process: Process) -> None:
    start(process, "print('said')")
    wait_until(lambda: process.pid is None, LIMIT_S)
    assert process.tail(1) == ["said"]


def test_it_holds_no_lock_or_pipe_of_the_command_that_starts_it(process: Process, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    with (tmp_path / "lock").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        fcntl.flock(file, fcntl.LOCK_EX)
        start(process, POLITE)
    os.close(writer)
    with (tmp_path / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert os.read(reader, 1) == b"", "nobody can write into it any more"
    os.close(reader)
    process.kill()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
