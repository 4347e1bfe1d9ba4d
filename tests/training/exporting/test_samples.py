"""Inputs to compare torch and ONNX Runtime on: of the contract's shapes, with the edges of what is allowed."""

from pathlib import Path

import pytest
import torch

from training.exporting.graphs import BUILDERS
from training.exporting.samples import Samples
from training.exporting.tensor_contract import read_contract
from training.models.family import FamilyPaths

REPOSITORY = Path("model_repository")
DTYPES = {"FP32": torch.float32, "INT64": torch.int64, "UINT8": torch.uint8}


@pytest.mark.parametrize("model", BUILDERS)
@pytest.mark.parametrize("size", [1, 3])
def test_a_batch_has_the_contracts_types_and_shapes(family: FamilyPaths, model: str, size: int) -> None:
    contract = read_contract(REPOSITORY, model)
    inputs, again = (Samples(family, model).draw(contract, size) for _ in range(2))
    assert [(x.dtype, tuple(x.shape)) for x in inputs] == [
        (DTYPES[spec.dtype], (size, *spec.shape)) for spec in contract.inputs
    ]
    assert all(torch.equal(one, other) for one, other in zip(inputs, again, strict=True))


def test_profiles_are_possible_and_what_lies_beyond_them_is_garbage(family: FamilyPaths) -> None:
    (features,) = Samples(family, "user_encoder").draw(read_contract(REPOSITORY, "user_encoder"), 32)
    schema = family.schema()
    for feature, where in zip(schema.features, schema.slices, strict=True):
        assert features[:, where].min() >= 0 and features[:, where].max() < feature.n_rows
    assert features[:-1, schema.n_slots :].any() and not features[-1, : schema.n_slots].any()


def test_prompts_go_from_empty_to_longer_than_fits(family: FamilyPaths) -> None:
    (ids,) = Samples(family, "text_encoder").draw(read_contract(REPOSITORY, "text_encoder"), 8)
    end = family.tokenizer().eos_token_id
    assert (ids[0, 1:] == end).all() and (ids[-1, 1:-1] != end).all()


def test_steps_of_the_denoiser_begin_with_the_first_and_end_with_the_last(family: FamilyPaths) -> None:
    contract = read_contract(REPOSITORY, "denoiser")
    drawn = Samples(family, "denoiser").draw(contract, 16)
    inputs = {spec.name: values for spec, values in zip(contract.inputs, drawn, strict=True)}
    assert inputs["timestep"][0] == 999 and inputs["timestep"][-1] == 0
    assert set(inputs["adapter_scale"].unique().tolist()) == {0.0, 1.0, 2.0}
