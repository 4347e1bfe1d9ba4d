"""Drawing with an exported release: the pictures that torch draws, up to rounding."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from contract.repository import Repository
from lab.generation.artist import SAMPLERS, Artist, Drawing
from lab.generation.served import ServedArtist
from training.models.family import TINY, FamilyPaths
from training.models.policies import TunedUNet

REPOSITORY = Path(os.environ.get("PERFUSION_MODEL_REPOSITORY", "model_repository"))
FAMILY = FamilyPaths.under(TINY)
PROMPTS = ("dress,red", "coat,belted,beach backdrop", "dress,red")


@pytest.mark.skipif(not Repository(REPOSITORY).numbers(), reason="nothing is exported: make export")
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_release_draws_what_torch_draws(sampler: str) -> None:
    how = Drawing(sampler, num_steps=2, batch_size=4)
    unet = FAMILY.backbone_unet()
    served, artist = ServedArtist(REPOSITORY, FAMILY, how), Artist(TunedUNet(unet, unet), FAMILY, how)
    assert served.latent_shape == artist.latent_shape
    states = served.states(PROMPTS)
    torch.testing.assert_close(states, artist.states(PROMPTS), atol=2e-2, rtol=2e-2)  # kept in half precision
    assert torch.equal(states[0], states[2])
    noise = torch.randn(3, 2, *served.latent_shape, generator=torch.Generator().manual_seed(1))
    users = torch.zeros(3, FAMILY.schema().n_slots, dtype=torch.long)
    drawn = [one.draw(one.states(PROMPTS), users, noise, "drawing") for one in (served, artist)]
    assert drawn[0].shape == drawn[1].shape == (3, 2, 64, 64, 3)
    gap = np.abs(np.subtract(*drawn, dtype=int))
    assert gap.mean() < 1 and gap.max() <= 16
