"""Drawing as a family is released: the merchant matters where a part is personal, and never in the plain U-Net."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from contract.errors import InputError
from training.generator.drawing import Generator
from training.models.family import FamilyPaths

PROMPTS = ["dress,red", "dress"]


def noise(generator: Generator) -> torch.Tensor:
    return torch.randn((2, 2, *generator.artist.latent_shape), generator=torch.Generator().manual_seed(0))


def drawn(generator: Generator, style: str) -> np.ndarray:
    slots = generator.schema.encode({"style": style}).slots
    return generator.draw(PROMPTS, np.array([slots, slots]), noise(generator), "drawing")


def test_a_family_draws_for_the_merchant_and_its_plain_unet_does_not(quick: FamilyPaths, tmp_path: Path) -> None:
    personal, plain = Generator(quick), Generator(quick, personal=False)
    ours, theirs = (drawn(personal, style) for style in ("minimalist", "luxury"))
    assert ours.shape == (2, 2, 16, 16, 3) and ours.dtype == np.uint8 and not np.array_equal(ours, theirs)
    np.testing.assert_array_equal(drawn(plain, "minimalist"), drawn(plain, "luxury"))
    nothing = tmp_path / "nothing"
    bare = Generator(replace(quick, adapter=nothing, preferences=nothing))
    np.testing.assert_array_equal(drawn(bare, "luxury"), drawn(plain, "luxury"))
    wishing = Generator(replace(quick, adapter=nothing))
    assert not np.array_equal(drawn(wishing, "minimalist"), drawn(wishing, "luxury"))


def test_the_settings_are_the_familys(family: FamilyPaths, tmp_path: Path) -> None:
    own = tmp_path / "family"
    shutil.copytree(family.reward.parent, own)
    (own / "defaults.json").write_text('{"num_steps": 3, "sampler": "euler"}')
    assert FamilyPaths.under(own).request_defaults().num_steps == 3
    assert Generator(FamilyPaths.under(own)).artist.how.sampler == "euler"
    for wrong in ('{"num_steps": 0}', '{"steps": 3}', "[", "[3]"):
        (own / "defaults.json").write_text(wrong)
        with pytest.raises(InputError):
            FamilyPaths.under(own).request_defaults()
