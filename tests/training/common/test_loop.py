"""The training loop: a killed run resumes to the very same weights, and a diverged one stops."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from torch import nn

from training.common.errors import Diverged
from training.common.loop import ResumeError, check_resumable, fit, warmup_cosine
from training.common.plots import plot_log
from training.common.recipes import Recipe


@pytest.fixture
def curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real pictures of logs, which other tests do without."""
    monkeypatch.setattr("training.common.loop.plot_log", plot_log)


class Killed(Exception):
    """Stands for a process that dies in the middle of a step."""


def training(run_dir: Path, steps: int, die_at: int | None = None) -> nn.Linear:
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    schedule = warmup_cosine(optimizer, 3, steps)

    def step(n: int) -> dict[str, float]:
        if n == die_at:
            raise Killed
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(n))
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        return {"loss": loss.item()}

    state = {"model": model, "optimizer": optimizer, "schedule": schedule}
    fit(run_dir, steps, step, state, save_every_s=0.0, log_every=5)
    return model


def test_a_killed_run_resumes_bit_exactly(tmp_path: Path) -> None:
    whole = training(tmp_path / "whole", 30)
    with pytest.raises(Killed):
        training(tmp_path / "killed", 30, die_at=17)
    resumed = training(tmp_path / "killed", 30)
    assert torch.equal(whole.weight, resumed.weight)
    assert torch.equal(whole.bias, resumed.bias)


def test_a_damaged_checkpoint_is_refused_by_name(tmp_path: Path) -> None:
    training(tmp_path, 5)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ResumeError, match=r"checkpoint\.pt cannot be read"):
        training(tmp_path, 10)


@pytest.mark.usefixtures("curves")
def test_the_log_has_each_step_once_after_a_kill(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        training(tmp_path, 30, die_at=17)
    training(tmp_path, 30)
    steps = [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert steps[-1] == 30
    assert (tmp_path / "log.png").stat().st_size > 0


def test_a_loss_that_is_not_finite_stops_the_run_and_names_it(tmp_path: Path) -> None:
    values: Callable[[int], dict[str, float]] = lambda n: {"loss": float("nan") if n == 7 else 1.0}  # noqa: E731
    with pytest.raises(Diverged, match="loss is not finite"):
        fit(tmp_path, 20, values, {}, log_every=1)


def test_a_run_of_something_else_is_not_gone_on_with(tmp_path: Path) -> None:
    def step(n: int) -> dict[str, float]:
        return {"loss": 1.0}

    fit(tmp_path, 2, step, {}, made_with={"lr": 0.1, "seed": 0})
    fit(tmp_path, 2, step, {}, made_with={"lr": 0.1, "seed": 0})
    with pytest.raises(ResumeError, match=r"another run: lr was 0\.1 and is 0\.2"):
        fit(tmp_path, 4, step, {}, made_with={"lr": 0.2, "seed": 0})


def test_a_loss_that_is_not_finite_is_never_saved(tmp_path: Path) -> None:
    seen = []

    def step(n: int) -> dict[str, float]:
        seen.append(n)
        return {"loss": float("nan") if n == 3 else 1.0}

    with pytest.raises(Diverged):
        fit(tmp_path, 10, step, {}, save_every_s=0.0)
    assert seen == [0, 1, 2, 3]
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=False)["step"] == 3


@dataclass(frozen=True)
class Small(Recipe):
    """The least of a recipe."""

    steps: int = 4
    lr: float = 0.1
    accumulate: int = 1
    decay: bool = False


def test_whether_a_run_can_go_on_is_known_before_any_work(tmp_path: Path) -> None:
    check_resumable(tmp_path / "new", 4, Small())  # there is none yet
    for name, recipe in (("steady", Small()), ("falling", Small(decay=True))):
        fit(tmp_path / name, 4, lambda _: {"loss": 1.0}, {}, made_with=recipe.made_with() | {"groups": "some"})
        check_resumable(tmp_path / name, 4, replace(recipe, accumulate=2))
        with pytest.raises(ResumeError, match=r"lr was 0\.1 and is 0\.2"):
            check_resumable(tmp_path / name, 4, replace(recipe, lr=0.2))
    check_resumable(tmp_path / "steady", 9, Small(steps=9))
    with pytest.raises(ResumeError, match="has 4 steps already, 3 are asked for"):
        check_resumable(tmp_path / "steady", 3, Small(steps=3))
    with pytest.raises(ResumeError, match=r"steps was 4 and is 9 \(steps: the learning rate falls over all of them\)"):
        check_resumable(tmp_path / "falling", 9, Small(steps=9, decay=True))


@pytest.mark.usefixtures("curves")
def test_a_number_of_the_log_that_is_not_finite_is_null(tmp_path: Path) -> None:
    fit(
        tmp_path, 2, lambda _: {"loss": 1.0}, {}, log_every=1, on_log=lambda n: {"held_out": float("nan") if n else 1.0}
    )
    rows = [json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["held_out"] for row in rows] == [1.0, None]
    assert (tmp_path / "log.png").stat().st_size > 0
