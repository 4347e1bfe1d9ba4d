"""Worker processes of an export, which never outlive it: not its refusal, not Ctrl-C, not its being killed.

Knows processes and jobs; nothing about what a job does.
"""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from training.exporting.errors import ExportError

J = TypeVar("J")
R = TypeVar("R")


@contextmanager
def workers(processes: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes. When the body raises they are stopped at once, whatever they do.

    Raises:
        ExportError: a process ended by itself.
    """
    context = multiprocessing.get_context("spawn")  # torch does not survive a fork
    others = multiprocessing.active_children()
    pool = ProcessPoolExecutor(processes, context, _end_with_parent)
    try:
        yield pool
    except BaseException as error:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            if process not in others:
                process.kill()
        if isinstance(error, BrokenProcessPool):
            raise ExportError(
                "a process of the export was killed, as systems do when memory runs out: export with --processes 1, or "
                "on a machine with more memory"
            ) from error
        raise
    finally:
        pool.shutdown()


def each(pool: ProcessPoolExecutor, work: Callable[[J], R], jobs: Sequence[J]) -> Iterator[tuple[J, R]]:
    """Every job with its result, as they are done; raises what the first refused job raised."""
    futures = {pool.submit(work, job): job for job in jobs}
    for future in as_completed(futures):
        yield futures[future], future.result()


def stop_on_sigterm() -> None:
    """Lets a termination clean up, as Ctrl-C does; for a program's main."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def _end_with_parent() -> None:
    """In a worker: Ctrl-C is the parent's matter, and its end, however it comes, is the worker's."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> Any:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
