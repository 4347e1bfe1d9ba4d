"""Chains: each stage goes on from what those before it left, and stale ones are refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contract.feature_schema import FeatureSchema
from lab.generation import methods
from lab.generation.methods import CHAINS, folder, is_trained, left_by, policy_of, stamp, train_last
from training.common.errors import ModelError
from training.common.storage import fingerprint
from training.data.groups import GroupTensors
from training.generator.recipes import GeneratorRecipe, tiny
from training.models.family import FamilyPaths
from training.models.frozen_unet import load_unet
from training.models.policies import AdaptedUNet, TunedUNet

CHAIN = CHAINS["perfusion"]


def one_step(chain: methods.Chain, seed: int) -> GeneratorRecipe:
    short = {"steps": 1, "groups_per_batch": 4, "held_out": 4, "sheet_every": 0, "warmup_steps": 1, "ema": 0.0}
    return replace(tiny(chain[-1]), **short, lr=1e-2, seed=seed)


def test_a_chain_goes_on_from_what_it_left_and_refuses_what_is_stale(
    family: FamilyPaths, schema: FeatureSchema, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(methods, "recipe_of", one_step)
    rng = np.random.default_rng(0)
    selected = np.arange(3) == rng.integers(3, size=16)[:, None]
    features, ids = rng.integers(0, 3, (16, 4)), rng.integers(0, 250, (16, 1, 77))
    latents = rng.normal(size=(16, 3, 4, 8, 8)).astype(np.float16)
    groups = GroupTensors(schema, features, selected, ids, latents=latents)
    for n in range(1, len(CHAIN) + 1):
        assert not is_trained(tmp_path, CHAIN[:n], 0, "base")
        train_last(CHAIN[:n], groups, family, tmp_path, 0, "base")
        assert is_trained(tmp_path, CHAIN[:n], 0, "base") and not is_trained(tmp_path, CHAIN[:n], 1, "base")
    aligned = folder(tmp_path, ("dpo",), 0) / "unet"
    assert left_by(CHAIN, tmp_path, 0) == (aligned, folder(tmp_path, CHAIN, 0) / "adapter")
    assert left_by(CHAIN[:1], tmp_path, 0) == (aligned, None)
    policy = policy_of("perfusion", family, tmp_path, 0)
    plus = policy_of("perfusion_plus", family, tmp_path, 0)
    assert isinstance(policy, AdaptedUNet)
    assert fingerprint(policy.unet) == fingerprint(load_unet(aligned)) != fingerprint(family.unet())
    assert isinstance(plus, TunedUNet) and fingerprint(plus.unet) == fingerprint(policy.unet)  # its taste is in words
    with pytest.raises(ModelError, match="other data, weights or recipes made it"):
        is_trained(tmp_path, CHAIN, 0, "other base")
    monkeypatch.setattr(methods, "recipe_of", lambda chain, seed: replace(one_step(chain, seed), kappa=1.0))
    with pytest.raises(ModelError, match="dpo-sft-group-0"):
        is_trained(tmp_path, CHAIN, 0, "base")


def test_a_stamp_covers_every_stage_of_its_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = stamp(CHAIN, 0, "base")
    plain = methods.recipe_of
    stamps = {whole, stamp(CHAIN, 1, "base"), stamp(CHAIN, 0, "other")}
    for stage in CHAIN:

        def changed(chain: methods.Chain, seed: int, stage: str = stage) -> GeneratorRecipe:
            recipe = plain(chain, seed)
            assert isinstance(recipe, GeneratorRecipe)
            return replace(recipe, lr=0.5) if chain[-1] == stage else recipe

        monkeypatch.setattr(methods, "recipe_of", changed)
        stamps.add(stamp(CHAIN, 0, "base"))
    assert len(stamps) == 3 + len(CHAIN)
