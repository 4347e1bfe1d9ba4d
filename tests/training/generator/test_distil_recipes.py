"""The numbers of a distillation."""

from dataclasses import replace

import pytest

from training.common.errors import ModelError
from training.generator.distil_recipes import DISTIL_STAGES, RECIPES


@pytest.mark.parametrize("recipe", [of() for of in RECIPES.values()], ids=RECIPES)
def test_each_stage_has_its_own_numbers(recipe) -> None:
    jumps, ways = ([recipe.steps_of(stage), recipe.lr_of(stage), recipe.batch_of(stage)] for stage in DISTIL_STAGES)
    assert jumps == [recipe.jump_steps, recipe.lr, recipe.jumps_per_batch]
    assert ways == [recipe.way_steps, recipe.way_lr, recipe.ways_per_batch]
    assert recipe.denoising_steps == 4


@pytest.mark.parametrize(("name", "value"), [("between", 0), ("astray", 1.5), ("way_lr", 0.0), ("trajectories", 0)])
def test_numbers_out_of_range_are_refused(name: str, value: float) -> None:
    with pytest.raises(ModelError, match=f"{name} is {value}"):
        replace(RECIPES["tiny"](), **{name: value})
