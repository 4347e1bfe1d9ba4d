"""What all recipes share: the ranges of their numbers, and which of them may change when a run goes on.

A number means the same in every recipe, so its range stands here once. Knows names and numbers; nothing about what is
trained, and no torch, so that commands check their arguments before it is loaded.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal

from training.common.errors import ModelError

Levels = Literal["uniform", "logit_normal", "coarse"]  # the law of noise levels
Reduction = Literal["sum", "mean"]  # over a group's positives


@dataclass(frozen=True)
class Range:
    """The numbers from `least` to `most`; `least` itself only if `closed`."""

    least: float = 0
    most: float = math.inf
    closed: bool = True

    def problem(self, value: float) -> str | None:
        """What is wrong with a value; None: nothing."""
        if not self.closed and not self.least < value < math.inf:  # NaN is not, either
            return "a positive number is needed"
        if not value >= self.least:
            return f"at least {self.least:g} is needed"
        if value > self.most or math.isinf(value):
            return f"at most {self.most} is possible" if self.most < math.inf else "a finite number is needed"
        return None


ONE, NONE, POSITIVE, SHARE = Range(1), Range(0), Range(0, closed=False), Range(0, 1)
RANGES: Mapping[str, Range] = {
    **dict.fromkeys(("steps", "rounds", "prompts", "groups_per_batch", "accumulate", "noise_levels", "held_out"), ONE),
    **dict.fromkeys(("jump_steps", "way_steps", "trajectories", "between", "jumps_per_batch", "ways_per_batch"), ONE),
    **dict.fromkeys(("embed_dim", "adaptive_hidden", "pairs_per_batch", "pairs_at_once", "denoising_steps"), ONE),
    **dict.fromkeys(("warmup_steps", "sheet_every", "n_cross_layers", "unlocked_vision", "unlocked_text"), NONE),
    **dict.fromkeys(("first_step", "weight_decay", "guidance", "eta", "threshold"), NONE),
    **dict.fromkeys(("leash", "contrast", "agreement"), NONE),
    **dict.fromkeys(
        ("way_lr", "lr", "kappa", "beta", "clip", "max_grad_norm", "user_lr_factor", "gate_lr_factor"), POSITIVE
    ),
    **dict.fromkeys(("divergence", "served_guidance"), POSITIVE),
    **dict.fromkeys(("feature_dropout", "prompt_dropout", "wished", "ema", "astray", "unknown", "varied"), SHARE),
    "candidates": Range(2),
    "seed": Range(0, 2**31 - 1),
}


class Recipe:
    """Base of every recipe, a frozen dataclass. Its numbers are in RANGES, whoever makes it.

    Raises:
        ModelError: a number is out of its range; names it.
    """

    free: ClassVar[frozenset[str]] = frozenset({"accumulate", "checkpoint_gradients", "sheet_every", "divergence"})
    """The fields that do not decide a step's weights: a run may go on with others."""

    def __post_init__(self) -> None:
        for name, value in _numbers(self).items():
            if problem := RANGES[name].problem(value):
                raise ModelError(f"{name} is {value}, {problem}")

    def may_change(self) -> frozenset[str]:
        """The fields that a run may go on with other values of.

        More steps are possible unless a falling rate was planned for so many.
        """
        return self.free if getattr(self, "decay", False) else self.free | {"steps"}

    def made_with(self) -> dict[str, Any]:
        """The fields that decide what a run makes, as JSON values."""
        return {name: value for name, value in asdict(self).items() if name not in self.may_change()}  # type: ignore[call-overload]


def _numbers(recipe: Recipe) -> dict[str, float]:
    values = {field.name: getattr(recipe, field.name) for field in fields(recipe)}  # type: ignore[arg-type]
    return {n: v for n, v in values.items() if isinstance(v, int | float) and not isinstance(v, bool)}
