"""Contracts for families of other sizes: the tiny family's own are reproduced, others follow its files."""

from dataclasses import replace
from pathlib import Path

import pytest

from training.common.errors import ModelError, WeightsError
from training.exporting.tensor_contract import read_contract
from training.exporting.write_contracts import resized, shapes_of, write_contracts
from training.exporting.graphs import BUILDERS
from training.exporting.manifest import tensor_sizes
from training.models.family import TINY, FamilyPaths

REPOSITORY = Path("model_repository")


def test_the_tiny_familys_contracts_are_the_committed_ones(tmp_path: Path) -> None:
    write_contracts(FamilyPaths.under(TINY), REPOSITORY, tmp_path)
    for model in BUILDERS:
        assert (tmp_path / model / "config.pbtxt").read_text() == (REPOSITORY / model / "config.pbtxt").read_text()


def test_another_family_gets_its_own_sizes(family: FamilyPaths, tmp_path: Path) -> None:
    write_contracts(family, REPOSITORY, tmp_path, max_batch=1, instances=1)
    contracts = {model: read_contract(tmp_path, model) for model in BUILDERS}
    limits = {model: contract.max_batch_size for model, contract in contracts.items()}
    assert limits.pop("text_encoder") == 2  # a prompt and its negative
    assert set(limits.values()) == {1}
    sizes = tensor_sizes(contracts)
    assert (sizes["latent_size"], sizes["image_size_px"], sizes["text_width"], sizes["reward_width"]) == (8, 16, 12, 8)
    assert contracts["user_encoder"].shape("features") == (4,)
    text = (tmp_path / "denoiser" / "config.pbtxt").read_text()
    assert 'name: "batch_1"' in text and 'name: "batch_5"' not in text  # larger than a batch may be
    assert text.endswith("\ninstance_group [ { count: 1 } ]\n")


def test_a_tensor_that_nobody_knows_is_named() -> None:
    with pytest.raises(ModelError, match="'depth'"):
        resized('input [ { name: "depth" data_type: TYPE_FP32 dims: [ 1 ] } ]', {"latents": (4, 8, 8)})


def test_a_missing_part_is_named(family: FamilyPaths, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="nowhere/config.json is missing"):
        shapes_of(replace(family, adapter=tmp_path / "nowhere"))
