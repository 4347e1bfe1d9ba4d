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
    used = features[:, : schema.n_slots]
    assert not used[0].any() and used.any() and features[:, schema.n_slots :].any(1).all()


def test_prompts_go_from_empty_to_longer_than_fits(family: FamilyPaths) -> None:
    (ids,) = Samples(family, "text_encoder").draw(read_contract(REPOSITORY, "text_encoder"), 8)
    lengths = (ids != family.tokenizer().eos_token_id).sum(1)  # with the token that begins each
    assert lengths[1] == 1 and lengths[2] == 76 and lengths[4] == 1
    assert lengths.unique().numel() > 3


def test_steps_of_the_denoiser_are_the_last_the_first_and_others(family: FamilyPaths) -> None:
    contract = read_contract(REPOSITORY, "denoiser")
    drawn = Samples(family, "denoiser").draw(contract, 16)
    inputs = {spec.name: values for spec, values in zip(contract.inputs, drawn, strict=True)}
    steps = inputs["timestep"][:, 0]
    assert (steps[0::3] == 999).all() and (steps[1::3] == 0).all()
    assert ((steps[2::3] > 0) & (steps[2::3] < 999)).all()
    assert set(inputs["adapter_scale"].unique().tolist()) == {0.0, 1.0, 2.0}


@pytest.mark.parametrize("sizes", [[6], [1] * 6, [1, 3, 2]])
def test_pictures_are_of_every_kind_however_small_the_batches(family: FamilyPaths, sizes: list[int]) -> None:
    samples, contract = Samples(family, "vae_encoder"), read_contract(REPOSITORY, "vae_encoder")
    pictures = torch.cat([samples.draw(contract, size)[0] for size in sizes])
    patches, noise, black, gradient, colour, white = pictures.flatten(1, 2)  # (H·W, 3) each
    assert (black == 0).all() and (white == 255).all()
    assert [len(picture.unique(dim=0)) for picture in (patches, colour)] == [16, 1] and 0 < colour.float().mean() < 255
    assert len(noise.unique(dim=0)) > 4_000 and 16 < len(gradient.unique(dim=0)) < 4_096
    across = pictures[3].int().diff(dim=1).abs()
    assert across.max() <= 5, "a gradient has no edges"
