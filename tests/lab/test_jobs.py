"""Jobs: a few side by side, in order, and none left running after a failure."""

import os
import sys
import time
from pathlib import Path

import pytest

from lab.jobs import Job, run_jobs, threads_of_each
from training.common.errors import ModelError


def job(name: str, tmp_path: Path, code: str) -> Job:
    return Job(name, (sys.executable, "-S", "-c", code), tmp_path / "logs" / f"{name}.log")


def test_jobs_run_in_order_and_their_output_is_kept(tmp_path: Path) -> None:
    run_jobs([job(str(n), tmp_path, f"print('ran', {n})") for n in range(3)], 1, total=5)
    assert [(tmp_path / "logs" / f"{n}.log").read_text() for n in range(3)] == [f"ran {n}\n" for n in range(3)]
    run_jobs([job("0", tmp_path, "print('again')")], 1)
    assert (tmp_path / "logs" / "0.log").read_text() == "ran 0\nagain\n"


def test_a_failed_job_is_named_with_its_log_and_the_others_are_stopped(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    waits = f"import os, pathlib, time; pathlib.Path({str(pid)!r}).write_text(str(os.getpid())); time.sleep(60)"
    fails = f"import os, time\nwhile not os.path.exists({str(pid)!r}): time.sleep(0.01)\ntime.sleep(0.1); 1 / 0"
    began = time.monotonic()
    with pytest.raises(ModelError, match=r"two failed; see .*two\.log"):
        run_jobs([job("one", tmp_path, waits), job("two", tmp_path, fails)], 2)
    assert time.monotonic() - began < 30
    assert "ZeroDivisionError" in (tmp_path / "logs" / "two.log").read_text()
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


def test_at_least_one_job_runs_at_once_and_every_job_has_a_thread(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="--jobs must be at least 1, got 0"):
        run_jobs([job("one", tmp_path, "")], 0)
    assert threads_of_each(10_000) == 1 and threads_of_each(1) == os.cpu_count()
