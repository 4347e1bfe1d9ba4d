"""Contracts for families of other sizes: the tiny family's own are reproduced, others follow its files."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from contract import tensors
from training.common.errors import ModelError, WeightsError
from training.exporting.family_contracts import AT_LEAST, resized, shapes_of, write_contracts
from training.exporting.graphs import BUILDERS
from training.exporting.manifest import tensor_sizes
from training.exporting.tensor_contract import read_contract
from training.models.family import TINY, FamilyPaths

REPOSITORY = Path("model_repository")


def test_the_tiny_familys_contracts_are_the_committed_ones(tmp_path: Path) -> None:
    write_contracts(FamilyPaths.under(TINY), REPOSITORY, tmp_path)
    for model in BUILDERS:
        texts = [(root / model / "config.pbtxt").read_text() for root in (tmp_path, REPOSITORY)]
        found, committed = (text_format.Parse(text, model_config_pb2.ModelConfig()) for text in texts)
        assert found == committed
        assert texts[0].splitlines()[0] == texts[1].splitlines()[0]  # the comment at the top says what a model is


def test_another_family_gets_its_own_sizes(family: FamilyPaths, tmp_path: Path) -> None:
    write_contracts(family, REPOSITORY, tmp_path, max_batch=1, instances=1)
    contracts = {model: read_contract(tmp_path, model) for model in BUILDERS}
    limits = {model: contract.max_batch_size for model, contract in contracts.items()}
    assert limits.pop("text_encoder") == AT_LEAST["text_encoder"]  # a prompt, its negative and some wished prompts
    assert set(limits.values()) == {1}
    sizes = tensor_sizes(contracts)
    assert (sizes.latent_size, sizes.image_size_px, sizes.text_width, sizes.reward_width) == (8, 16, 12, 8)
    assert contracts["user_encoder"].shape("features") == (tensors.FEATURE_SLOTS,)  # and not 4: it may grow
    config = text_format.Parse((tmp_path / "denoiser" / "config.pbtxt").read_text(), model_config_pb2.ModelConfig())
    assert [warmup.name for warmup in config.model_warmup] == ["batch_1"]  # batch_5 is larger than a batch may be
    assert list(config.model_warmup[0].inputs["latents"].dims) == [4, 8, 8]
    assert [group.count for group in config.instance_group] == [1]


def test_a_family_beyond_the_maxima_gets_the_next_power_of_two(family: FamilyPaths, tmp_path: Path) -> None:
    entries = [{"kind": "category", "phrases": [f"garment {n}" for n in range(tensors.PHRASES + 1)]}]
    (tmp_path / "phrases.json").write_text(json.dumps(entries))
    shapes = shapes_of(replace(family, phrases=tmp_path / "phrases.json", preferences=tmp_path / "absent"))
    assert shapes["user_encoder"]["favours"] == (2 * tensors.PHRASES,)
    assert shapes["user_encoder"]["features"] == (tensors.FEATURE_SLOTS,)


def test_a_family_without_an_adapter_has_the_same_tensors(family: FamilyPaths, tmp_path: Path) -> None:
    assert shapes_of(replace(family, adapter=tmp_path / "absent")) == shapes_of(family)


def test_a_tensor_that_nobody_knows_is_named() -> None:
    with pytest.raises(ModelError, match="'depth'"):
        resized('input [ { name: "depth" data_type: TYPE_FP32 dims: [ 1 ] } ]', {"latents": (4, 8, 8)})


def test_a_missing_part_is_named(family: FamilyPaths, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="nowhere/config.json is missing"):
        shapes_of(replace(family, perfusion_rm=tmp_path / "nowhere"))
