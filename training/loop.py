"""The loop that every training shares: resumable steps, a progress bar, a log and a plot of it.

A training is a function of its step number: whatever is random in step n is drawn from a
generator seeded with (seed, n), so a resumed run continues exactly where the first one stopped.
Knows nothing of models or data: it calls `step` and saves whatever has a state_dict.
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
from tqdm import tqdm

from training.plots import plot_log


class Stateful(Protocol):
    """Anything that can be saved in a checkpoint and restored from it."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> Any: ...


class Diverged(RuntimeError):
    """The loss is not a finite number; the last checkpoint is from before."""


def warmup_cosine(optimizer: Optimizer, warmup: int, steps: int, floor: float = 0.05) -> LambdaLR:
    """Linear warm-up over `warmup` steps, then a cosine down to `floor` of the learning rate."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, steps - warmup))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def fit(
    run_dir: Path,
    steps: int,
    step: Callable[[int], Mapping[str, float]],
    state: Mapping[str, Stateful],
    *,
    save_every_s: float = 60.0,
    log_every: int = 20,
    on_log: Callable[[int], Mapping[str, float]] | None = None,
) -> None:
    """Runs `step(n)` for n in [0, steps), from the last checkpoint in `run_dir` if there is one.

    Args:
        run_dir: gets checkpoint.pt, log.jsonl and log.png.
        steps: how many steps in all; a finished run returns at once.
        step: does one optimizer step and returns what to log; must depend on n alone.
        state: everything that changes from step to step, by name.
        save_every_s: seconds between checkpoints.
        log_every: steps between log lines, each the mean over those steps.
        on_log: more to log then, e.g. a measurement on held-out data.

    Raises:
        Diverged: a logged value is not finite.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    first = _restore(run_dir / "checkpoint.pt", state)
    _drop_log_after(run_dir / "log.jsonl", first)
    sums: dict[str, float] = {}
    counted, saved_at, began = 0, time.monotonic(), time.monotonic()
    bar = tqdm(range(first, steps), initial=first, total=steps, desc=run_dir.name, mininterval=2)
    for n in bar:
        for name, value in step(n).items():
            sums[name] = sums.get(name, 0.0) + float(value)
        counted += 1
        if (n + 1) % log_every == 0 or n + 1 == steps:
            row = {name: total / counted for name, total in sums.items()}
            _check_finite(row, n)
            row |= on_log(n) if on_log else {}
            _append(run_dir / "log.jsonl", {"step": n + 1, "s": time.monotonic() - began, **row})
            bar.set_postfix({name: f"{value:.4g}" for name, value in row.items()})
            sums, counted = {}, 0
        if time.monotonic() - saved_at > save_every_s or n + 1 == steps:
            _save(run_dir / "checkpoint.pt", n + 1, state)
            saved_at = time.monotonic()
    if (run_dir / "log.jsonl").exists():
        plot_log(run_dir / "log.jsonl", run_dir / "log.png")


def _restore(path: Path, state: Mapping[str, Stateful]) -> int:
    if not path.exists():
        return 0
    saved = torch.load(path, weights_only=False)
    for name, part in state.items():
        part.load_state_dict(saved["state"][name])
    return int(saved["step"])


def _save(path: Path, step: int, state: Mapping[str, Stateful]) -> None:
    parts = {name: part.state_dict() for name, part in state.items()}
    torch.save({"step": step, "state": parts}, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)  # a kill in the middle leaves the old one whole


def _check_finite(row: Mapping[str, float], n: int) -> None:
    bad = [name for name, value in row.items() if not math.isfinite(value)]
    if bad:
        raise Diverged(f"step {n}: {', '.join(bad)} is not finite; lower the learning rate")


def _append(path: Path, row: Mapping[str, float]) -> None:
    with path.open("a") as log:
        log.write(json.dumps(row) + "\n")


def _drop_log_after(path: Path, step: int) -> None:
    if path.exists():
        rows = [line for line in path.read_text().splitlines() if json.loads(line)["step"] <= step]
        path.write_text("".join(row + "\n" for row in rows))
