"""The loop that every training shares: resumable steps, a progress bar, a log and a plot of it.

A training is a function of its step number: all random numbers of step n come from a
generator seeded with (seed, n), so a resumed run continues exactly where the first one stopped.
Knows nothing of models or data: it calls `step` and saves every object that has a state_dict.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from training.common.errors import Diverged, ModelError, reading
from training.common.plots import plot_log
from training.common.recipes import Recipe
from training.common.reports import as_json
from training.common.runs import held
from training.common.workers import Workers

LOG_EVERY = 20  # steps between log lines
CHECKPOINT = "checkpoint.pt"
WHY = {"steps": "the learning rate falls over all of them"}  # why a field keeps its value, where that is not obvious


class Stateful(Protocol):
    """Anything that can be saved in a checkpoint and restored from it."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


class ResumeError(ModelError):
    """The folder holds a run with other settings or data; a resumption would mix the two."""


def warmup_cosine(optimizer: Optimizer, warmup: int, steps: int, floor: float = 0.05) -> LambdaLR:
    """Linear warm-up over `warmup` steps, then a cosine down to `floor` of the learning rate."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, steps - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def warmup_only(optimizer: Optimizer, warmup: int) -> LambdaLR:
    """Linear warm-up over `warmup` steps, then the full rate."""
    return LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / warmup))


def fit(
    run_dir: Path,
    steps: int,
    step: Callable[[int], Mapping[str, float]],
    state: Mapping[str, Stateful],
    *,
    save_every_s: float = 60.0,
    log_every: int = LOG_EVERY,
    on_log: Callable[[int], Mapping[str, float]] | None = None,
    workers: Workers | None = None,
    made_with: Mapping[str, Any] | None = None,
) -> None:
    """Runs `step(n)` for n in [0, steps), from the last checkpoint in `run_dir` if there is one.

    Args:
        run_dir: gets checkpoint.pt, log.jsonl, log.png and tensorboard/.
        steps: total number of steps; a finished run returns at once.
        step: does one optimizer step and returns what to log; must depend on n alone.
        state: everything that changes from step to step, by name.
        save_every_s: seconds between checkpoints.
        log_every: steps between log lines, each the mean over those steps.
        on_log: returns more values for a log line, e.g. a measurement on held-out data; runs in the first worker only.
        workers: the processes that train together; the first one writes, all of them resume.
        made_with: the run's inputs, such as its recipe and its data, as JSON values; kept in the checkpoint.

    Raises:
        BusyError: another process trains in `run_dir`.
        Diverged: a logged value is not finite.
        ResumeError: the checkpoint in `run_dir` was made with another value, or is beyond `steps`.
    """
    workers = workers or Workers()
    with held(run_dir, unless=not workers.is_first):
        first = _restore(run_dir / CHECKPOINT, steps, state, made_with or {})
        workers.wait()  # no worker writes while another still reads
        log = _Log(run_dir, first) if workers.is_first else None
        saved_at = time.monotonic()
        shown = {"initial": first, "total": steps, "desc": run_dir.name, "mininterval": 2}
        bar = tqdm(range(first, steps), **shown, disable=log is None)
        for n in bar:
            measured = step(n)
            _check_finite(measured, n)  # in every worker, and before anything is saved
            if log is None:
                continue
            log.add(measured)
            last = n + 1 == steps
            if (n + 1) % log_every == 0 or last:
                bar.set_postfix(log.write(n, on_log))
            if time.monotonic() - saved_at > save_every_s or last:
                _save(run_dir / CHECKPOINT, n + 1, state, made_with or {})
                saved_at = time.monotonic()
        if log is not None:
            log.close()


def check_resumable(run_dir: Path, steps: int, recipe: Recipe) -> None:
    """Refuses a folder whose run was made with another recipe, before any data are read.

    Raises:
        ResumeError: names the fields and the reason.
    """
    if (run_dir / CHECKPOINT).exists():
        _check_same(run_dir / CHECKPOINT, _read(run_dir / CHECKPOINT), steps, recipe.made_with())


class _Log:
    """log.jsonl and TensorBoard's events: each line the mean since the one before."""

    def __init__(self, run_dir: Path, first: int) -> None:
        self.path, self.began = run_dir / "log.jsonl", time.monotonic()
        _drop_log_after(self.path, first)
        self.board = SummaryWriter(str(run_dir / "tensorboard"), purge_step=first + 1)
        self._forget()

    def _forget(self) -> None:
        self.sums: dict[str, float] = {}
        self.counted = 0

    def add(self, measured: Mapping[str, float]) -> None:
        """Adds the values of one step."""
        for name, value in measured.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        self.counted += 1

    def write(self, n: int, on_log: Callable[[int], Mapping[str, float]] | None) -> dict[str, str]:
        """Writes a line for the steps up to n and returns it for the progress bar."""
        row = {name: total / self.counted for name, total in self.sums.items()}
        row |= on_log(n) if on_log else {}
        _append(self.path, {"step": n + 1, "s": time.monotonic() - self.began, **row})
        for name, value in row.items():
            self.board.add_scalar(name, value, n + 1)
        self._forget()
        return {name: f"{value:.4g}" for name, value in row.items()}

    def close(self) -> None:
        """Draws the picture of the log."""
        self.board.close()
        if self.path.exists():
            plot_log(self.path, self.path.with_name("log.png"))


def _restore(path: Path, steps: int, state: Mapping[str, Stateful], made_with: Mapping[str, Any]) -> int:
    if not path.exists():
        return 0
    saved = _read(path)
    _check_same(path, saved, steps, made_with)
    with reading(path, ResumeError):
        for name, part in state.items():
            part.load_state_dict(saved["state"][name])
    return int(saved["step"])


def _read(path: Path) -> dict[str, Any]:
    """A checkpoint; its tensors stay on disk until they are used."""
    with reading(path, ResumeError):
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False, mmap=True)
    return saved


def _check_same(path: Path, saved: Mapping[str, Any], steps: int, made_with: Mapping[str, Any]) -> None:
    """Compares the fields that decide this run; a field that may change is not among `made_with`."""
    was = saved.get("made_with", {})
    odd = [name for name in sorted(made_with) if was.get(name) != made_with[name]]
    if odd:
        told = (f"{name} was {was.get(name)!r} and is {made_with[name]!r}" for name in odd)
        because = "".join(f" ({name}: {WHY[name]})" for name in odd if name in WHY)
        raise ResumeError(
            f"{path} is of another run: {', '.join(told)}{because}; choose another folder or remove this one"
        )
    if saved["step"] > steps:
        raise ResumeError(f"{path} has {saved['step']} steps already, {steps} are asked for: choose another folder")


def _save(path: Path, step: int, state: Mapping[str, Stateful], made_with: Mapping[str, Any]) -> None:
    parts = {name: part.state_dict() for name, part in state.items()}
    torch.save({"step": step, "state": parts, "made_with": dict(made_with)}, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)  # a kill in the middle leaves the old one whole


def _check_finite(row: Mapping[str, float], n: int) -> None:
    bad = [name for name, value in row.items() if not math.isfinite(value)]
    if bad:
        raise Diverged(f"step {n}: {', '.join(bad)} is not finite; lower the learning rate (or κ)")


def _append(path: Path, row: Mapping[str, float]) -> None:
    with path.open("a") as log:
        log.write(as_json(row, indent=None) + "\n")


def _drop_log_after(path: Path, step: int) -> None:
    if path.exists():
        lines = path.read_text().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith("\n")]  # a kill may have torn the last one
        path.write_text("".join(line for line in whole if json.loads(line)["step"] <= step))
