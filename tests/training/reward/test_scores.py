"""Scores of groups: in parts as at once, and models that do not read a family's pictures or tokens are refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lab.pretraining.train_blip import build as build_blip
from training.common.errors import WeightsError
from training.data.groups import GroupError, GroupTensors
from training.models.family import FamilyPaths
from training.reward.models import Starts, build
from training.reward.recipes import RewardRecipe
from training.reward.scores import RewardScorer


def test_scores_do_not_depend_on_the_parts_they_are_computed_in(family: FamilyPaths) -> None:
    rng, schema = np.random.default_rng(0), family.schema()
    images = rng.integers(0, 255, (7, 2, 32, 32, 3), dtype=np.uint8)
    ids, picks = rng.integers(0, 99, (7, 1, 77)), np.zeros((7, 2), bool)
    groups = GroupTensors(schema, np.ones((7, schema.n_slots), np.int64), picks, ids, images=images)
    scorer = RewardScorer.of(family)
    np.testing.assert_allclose(scorer.all(groups, batch_size=2), whole := scorer.all(groups), rtol=1e-5)
    assert whole.shape == (7, 2) and np.isfinite(whole).all()
    with pytest.raises(GroupError, match="these groups have none"):
        scorer.all(replace(groups, images=None))


def test_a_blip_of_other_pictures_or_tokens_is_refused(family: FamilyPaths) -> None:
    clip, cpu = family.clip(), torch.device("cpu")
    blip = build_blip(family.reward_tokenizer())  # of 64 pixels
    with pytest.raises(WeightsError, match="reads pictures of 64 pixels, and the family's have 32"):
        RewardScorer(blip, family.preprocess(clip), cpu)
    blip.text.config.vocab_size = 30
    with pytest.raises(WeightsError, match="the BLIP knows 30 tokens, and the family's tokenizer has"):
        build(RewardRecipe("imagereward"), Starts(clip, blip), None)
