"""Workers of an export: results as they come, and an end with the export, however that ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from training.exporting.errors import ContractError, ExportError
from training.exporting.pool import each, workers

PATIENCE_S = 120
PARENT = """
import sys
from pathlib import Path
from tests.training.exporting.test_pool import work_until_killed
from training.exporting.pool import each, stop_on_sigterm, workers

if __name__ == "__main__":
    stop_on_sigterm()
    try:
        with workers(1) as pool:
            list(each(pool, work_until_killed, [Path(sys.argv[1])]))
    finally:
        Path(sys.argv[1] + ".cleaned").touch()
"""


def half(number: int) -> float:
    if number < 0:
        raise ContractError(f"{number} is negative")
    return number / 2


def work_until_killed(file: Path) -> None:
    """Writes its process id, whole, and never ends."""
    partial = file.with_suffix(".new")
    partial.write_text(str(os.getpid()))
    os.replace(partial, file)
    threading.Event().wait()


def die(_: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def refuse_after(file: Path) -> None:
    """Refuses once another worker is at work."""
    wait_until(file.exists)
    raise ExportError("no")


def work_or_refuse(job: tuple[str, Path]) -> None:
    {"work": work_until_killed, "refuse": refuse_after, "die": die}[job[0]](job[1])


def wait_until(condition: object) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(process: int) -> bool:
    """Neither gone nor a zombie."""
    try:
        return "State:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def test_every_job_comes_with_its_result() -> None:
    with workers(2) as pool:
        assert sorted(each(pool, half, [1, 2, 3])) == [(1, 0.5), (2, 1.0), (3, 1.5)]
        with pytest.raises(ContractError, match="-1 is negative"):
            list(each(pool, half, [-1]))
        assert list(each(pool, half, [5])) == [(5, 2.5)], "a refusal that is caught leaves the pool usable"


def test_a_refusal_stops_the_workers_that_are_still_at_work(tmp_path: Path) -> None:
    file = tmp_path / "process"
    with pytest.raises(ExportError, match="^no$"), workers(2) as pool:
        list(each(pool, work_or_refuse, [("work", file), ("refuse", file)]))
    wait_until(lambda: not is_running(int(file.read_text())))


def test_a_worker_that_is_killed_is_a_refusal_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="memory runs out: export with --processes 1"), workers(1) as pool:
        list(each(pool, work_or_refuse, [("die", tmp_path)]))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_the_export(number: signal.Signals, tmp_path: Path) -> None:
    script, file = tmp_path / "a parent.py", tmp_path / "process"
    script.write_text(PARENT)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}
    parent = subprocess.Popen([sys.executable, script, file], env=environment, stderr=subprocess.DEVNULL)
    try:
        wait_until(file.exists)
        parent.send_signal(number)
        parent.wait(PATIENCE_S)
        wait_until(lambda: not is_running(int(file.read_text())))
    finally:
        parent.kill()
        parent.wait()
    assert Path(f"{file}.cleaned").exists() is (number is not signal.SIGKILL)
