"""Recipes: every number has a range, whichever recipe it is in, and a run says what may change when it goes on."""

from dataclasses import fields, replace

import pytest

from training.common.errors import ModelError
from training.common.recipes import RANGES, Recipe
from training.generator import recipes as generator
from training.generator import spo_recipes
from training.reward import recipes as reward

EVERY: tuple[Recipe, ...] = (
    *(make(model) for model in reward.MODELS for make in (reward.paper, reward.tiny)),
    *(make(stage) for stage in generator.STAGES for make in (generator.paper, generator.tiny)),
    *(part for make in spo_recipes.RECIPES.values() for part in (make(0).step_aware, make(0).spo)),
)


def numbers(recipe: Recipe) -> list[str]:
    kinds = {field.name: type(getattr(recipe, field.name)) for field in fields(recipe)}  # type: ignore[arg-type]
    return [name for name, kind in kinds.items() if kind in (int, float)]


@pytest.mark.parametrize("recipe", {type(recipe): recipe for recipe in EVERY}.values(), ids=lambda r: type(r).__name__)
def test_no_number_of_any_recipe_may_be_negative_or_not_finite(recipe: Recipe) -> None:
    assert numbers(recipe) and set(numbers(recipe)) <= RANGES.keys()
    for name in numbers(recipe):
        for value in (-1, float("nan"), float("inf")):
            with pytest.raises(ModelError, match=f"^{name} is {value}, "):
                replace(recipe, **{name: value})  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("steps", 0, "steps is 0, at least 1 is needed"),
        ("groups_per_batch", 0, "groups_per_batch is 0, at least 1 is needed"),
        ("lr", 0.0, "lr is 0.0, a positive number is needed"),
        ("seed", 2**31, "seed is 2147483648, at most 2147483647 is possible"),
        ("feature_dropout", 1.5, "feature_dropout is 1.5, at most 1 is possible"),
    ],
)
def test_a_range_is_named_with_its_end(name: str, value: float, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        replace(reward.paper(), **{name: value})


def test_more_steps_are_possible_where_no_falling_rate_was_planned_for_them() -> None:
    steady, falling = reward.paper(), reward.tiny()
    assert steady.made_with() == replace(steady, steps=9_999, accumulate=4).made_with()
    assert falling.made_with() == replace(falling, accumulate=4).made_with()
    assert falling.made_with() != replace(falling, steps=9_999).made_with()
    assert steady.made_with() != replace(steady, lr=1.0).made_with()
    spo = spo_recipes.tiny()
    assert spo.spo.made_with() == replace(spo.spo, rounds=7).made_with()
    assert spo.step_aware.made_with() != replace(spo.step_aware, steps=7).made_with()
