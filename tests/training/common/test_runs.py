"""The lock on a run's folder: one process at a time, and none is left by a process that was killed."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from training.common.errors import ModelError
from training.common.runs import BusyError, held, make_run_dir

HOLDER = """
import sys, time
from pathlib import Path
from training.common.runs import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds the folder."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_process_is_refused_and_told_who_is_there(tmp_path: Path, holder: subprocess.Popen) -> None:
    who = f"process {holder.pid} on {socket.gethostname()} works in "
    with pytest.raises(BusyError, match=who), held(tmp_path / "run"):
        pass


def test_a_killed_process_leaves_no_lock(tmp_path: Path, holder: subprocess.Popen) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert f"process {holder.pid}" in (tmp_path / "run" / "lock").read_text()
    with held(tmp_path / "run"):
        assert f"process {os.getpid()}" in (tmp_path / "run" / "lock").read_text()


def test_a_waiting_process_enters_when_the_other_leaves(tmp_path: Path, holder: subprocess.Popen) -> None:
    command = [sys.executable, "-c", HOLDER.replace("[1])):", "[1]), wait=True):"), str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout is not None and f"process {holder.pid}" in waiting.stdout.readline()
        holder.kill()
        assert waiting.stdout.readline() == "held\n"
        waiting.kill()


def test_a_process_may_enter_twice_and_workers_enter_beside_their_first(
    tmp_path: Path, holder: subprocess.Popen
) -> None:
    with held(tmp_path / "own"), held(tmp_path / "own"):
        pass
    with held(tmp_path / "run", unless=True), held(tmp_path / "run", "another.lock"):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="run cannot be made: Not a directory"):
        make_run_dir(tmp_path / "file" / "run")
