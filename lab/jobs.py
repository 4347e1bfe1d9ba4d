"""Runs many trainings and measurements, each a process of its own, a few side by side, with one progress bar.

Knows commands and their logs; not what they do.
"""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from training.common.errors import ModelError


@dataclass(frozen=True)
class Job:
    """A command whose output goes to the end of a file."""

    name: str
    command: tuple[str, ...]
    log: Path

    def start(self) -> subprocess.Popen[bytes]:
        """Its process."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            return subprocess.Popen(self.command, stdout=log, stderr=subprocess.STDOUT)


def threads_of_each(at_once: int) -> int:
    """How many threads a job should take when so many run side by side."""
    return max(1, (os.cpu_count() or 1) // max(1, at_once))


def run_jobs(jobs: Sequence[Job], at_once: int, *, total: int | None = None, desc: str = "cells") -> None:
    """Runs the jobs in order, a fixed number at a time; `total` includes jobs done before.

    Raises:
        ModelError: one failed; the others that run are stopped first.
    """
    if at_once < 1:
        raise ModelError(f"--jobs must be at least 1, got {at_once}")
    total = len(jobs) if total is None else total
    left = list(jobs)
    running: list[tuple[Job, subprocess.Popen[bytes]]] = []
    with tqdm(total=total, initial=total - len(left), desc=desc) as bar:
        while left or running:
            while left and len(running) < at_once:
                running.append((left[0], left.pop(0).start()))
            job, process = running.pop(0)
            try:
                process.wait(timeout=1)
            except subprocess.TimeoutExpired:
                running.append((job, process))
                continue
            if process.returncode:
                for _, other in running:
                    other.terminate()
                    other.wait()
                raise ModelError(f"{job.name} failed; see {job.log}")
            bar.update()
