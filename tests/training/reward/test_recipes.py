"""Recipes of reward models: every name has its numbers, and only PerFusionRM's variants have plug-ins."""

import pytest

from training.models.plugin import PluginShape
from training.reward.recipes import MODELS, VARIANTS, Model, paper, tiny


@pytest.mark.parametrize("model", MODELS)
def test_every_model_has_both_recipes(model: Model) -> None:
    for recipe in (paper(model), tiny(model)):
        assert recipe.model == model and recipe.lr > 0


def test_a_recipe_says_which_towers_get_plug_ins_and_how_wide() -> None:
    for model, variant in VARIANTS.items():
        config = tiny(model).config()
        assert config.variant == variant and config.plugin == PluginShape(32, 2, 128)
        assert paper(model).config().plugin == PluginShape()


def test_the_papers_numbers_are_appendix_b4s() -> None:
    recipe = paper()
    assert (recipe.groups_per_batch, recipe.lr, recipe.warmup_steps, recipe.weight_decay) == (128, 1e-3, 500, 1e-2)
