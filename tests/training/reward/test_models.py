"""Reward models by name: what is saved comes back, and what is missing to build one is named."""

from pathlib import Path

import pytest
import torch

from lab.pretraining.train_blip import build as build_blip
from tests.training.loud import make_loud
from training.common.errors import WeightsError
from training.models.family import FamilyPaths
from training.reward.models import OBJECTIVES, Starts, build, load, save, trained
from training.reward.recipes import MODELS, VARIANTS, Model, RewardRecipe

FEATURES = torch.tensor([[1, 1, 0, 2], [2, 2, 3, 4]])


@pytest.mark.parametrize("model", [*VARIANTS, "aesthetics", "imagereward", "hpsv2", "pickscore"])
def test_what_is_saved_comes_back(family: FamilyPaths, model: Model, tmp_path: Path) -> None:
    torch.manual_seed(0)
    blip = build_blip(family.reward_tokenizer()) if model == "imagereward" else None
    recipe = RewardRecipe(model, unlocked_vision=1, unlocked_text=1)
    made = make_loud(build(recipe, Starts(family.clip(), blip), family.schema())).eval()
    save(made, tmp_path)
    again = load(model, tmp_path, Starts(family.clip()), family.schema()).eval()
    size = 64 if model == "imagereward" else 32
    pixels, ids = torch.randn(2, 3, 3, size, size), torch.randint(0, 200, (2, 77))
    ids[:, 5:] = family.reward_tokenizer().eos_token_id
    with torch.inference_mode():
        found, expected = (network(pixels, ids, FEATURES) for network in (again, made))
    tolerance = 2e-2 if model in VARIANTS else 1e-5  # plug-ins are kept in half precision
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_every_model_has_an_objective_and_clip_by_itself_trains_nothing(family: FamilyPaths) -> None:
    assert set(OBJECTIVES) == set(MODELS)
    assert trained(build(RewardRecipe("clip_h"), Starts(family.clip()), None)) == {}
    assert load("clip_h", None, Starts(family.clip())) is not None


def test_what_a_model_needs_and_does_not_get_is_named(family: FamilyPaths, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="imagereward starts from a BLIP; none was given"):
        build(RewardRecipe("imagereward"), Starts(family.clip()), family.schema())
    with pytest.raises(WeightsError, match="perfusion_rm reads profiles; no feature schema was given"):
        build(RewardRecipe(), Starts(family.clip()), None)
    with pytest.raises(WeightsError, match=r"config\.json is missing"):
        load("perfusion_rm", tmp_path, Starts(family.clip()))
