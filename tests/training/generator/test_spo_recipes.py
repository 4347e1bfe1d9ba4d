"""Recipes of SPO: one seed for both stages, and what may change when a stage goes on."""

from dataclasses import replace

import pytest

from training.common.errors import ModelError
from training.generator.spo_recipes import RECIPES, SpoRecipe


@pytest.mark.parametrize("name", RECIPES)
def test_a_seed_is_of_both_stages_and_in_its_range(name: str) -> None:
    recipe = RECIPES[name](7)
    assert recipe.step_aware.seed == recipe.spo.seed == 7
    with pytest.raises(ModelError, match="seed is -1, at least 0"):
        RECIPES[name](-1)


def test_rounds_may_be_added_and_pairs_computed_in_other_parts() -> None:
    recipe = SpoRecipe()
    assert recipe.made_with() == replace(recipe, rounds=2_000, pairs_at_once=1).made_with()
    assert recipe.made_with() != replace(recipe, beta=1.0).made_with()
    with pytest.raises(ModelError, match="candidates is 1, at least 2"):
        replace(recipe, candidates=1)
