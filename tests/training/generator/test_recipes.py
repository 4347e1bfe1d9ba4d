"""Recipes: what a stage is whatever its numbers, and numbers that no training could use."""

from dataclasses import replace

import pytest

from training.common.errors import ModelError
from training.generator.recipes import STAGES, GeneratorRecipe, Stage, paper, tiny


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_is_the_same_in_every_recipe(stage: Stage) -> None:
    assert (paper(stage).trains, paper(stage).objective) == (tiny(stage).trains, tiny(stage).objective)
    assert paper(stage).trains == ("adapter" if stage in ("sft", "group", "reward") else "unet")
    assert paper(stage).needs_reference is (stage in ("dpo", "group", "unet_group"))
    assert (paper(stage).prompt_dropout > 0) is (paper(stage).trains == "unet")  # guidance needs an empty prompt


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"steps": 0}, "steps is 0, at least 1 is needed"),
        ({"accumulate": 0}, "accumulate is 0, at least 1"),
        ({"seed": -1}, "seed is -1, at least 0"),
        ({"seed": 2**31}, "seed is 2147483648, at most 2147483647"),
        ({"lr": float("nan")}, "lr is nan, a positive number"),
        ({"kappa": 0.0}, "kappa is 0.0, a positive number"),
        ({"kappa": float("inf")}, "kappa is inf, a positive number"),
    ],
)
def test_numbers_that_no_training_could_use_are_named(changes: dict[str, float], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        replace(GeneratorRecipe("group", steps=6, lr=1e-3), **changes)
