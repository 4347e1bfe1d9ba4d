"""The denoising loop: with the right noise every sampler ends in the right picture."""

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from torch import Tensor

from training.common.noise import noise_schedule
from training.generator.sampling import sample, to_images
from training.models.family import FamilyPaths

ALPHAS_BAR = noise_schedule().alphas_cumprod
SAMPLERS = (DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler)


def of_picture(z_0: Tensor):
    """The noise that leads to z_0, whatever the latents are."""

    def predict(z_t: Tensor, t: Tensor, _: Tensor) -> Tensor:
        a = ALPHAS_BAR[t.long()].view(-1, 1, 1, 1)
        return (z_t - a.sqrt() * z_0) / (1 - a).sqrt()

    return predict


@pytest.mark.parametrize("kind", SAMPLERS)
def test_every_sampler_ends_where_the_right_noise_leads(kind) -> None:
    torch.manual_seed(0)
    z_0, noise, text = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.zeros(2, 77, 12)
    scheduler = kind.from_config(noise_schedule().config | {"timestep_spacing": "trailing", "steps_offset": 0})
    found = sample(of_picture(z_0), of_picture(z_0), text, text, noise, guidance=4.0, steps=6, scheduler=scheduler)
    torch.testing.assert_close(found, z_0, atol=0.15, rtol=0)  # DDIM ends where ᾱ = 0.999


def test_guidance_goes_from_the_unconditional_beyond_the_conditional() -> None:
    torch.manual_seed(0)
    one, other, noise, text = (torch.randn(1, 4, 8, 8) for _ in range(4))
    for guidance, wanted in ((0.0, other), (1.0, one), (2.0, 2 * one - other)):
        found = sample(of_picture(one), of_picture(other), text, text, noise, guidance=guidance, steps=50)
        torch.testing.assert_close(found, wanted, atol=0.15, rtol=0)


def test_a_scheduler_is_not_used_up() -> None:
    torch.manual_seed(0)
    z_0, noise, text = (torch.randn(1, 4, 8, 8) for _ in range(3))
    scheduler = DPMSolverMultistepScheduler.from_config(noise_schedule().config)
    first, again = (
        sample(of_picture(z_0), of_picture(z_0), text, text, noise, guidance=1.0, steps=5, scheduler=scheduler)
        for _ in range(2)
    )
    assert torch.equal(first, again)


def test_latents_become_pictures_in_parts_as_at_once(family: FamilyPaths) -> None:
    vae, latents = family.vae(), torch.randn(3, 4, 8, 8)
    whole, parts = to_images(vae, latents), to_images(vae, latents, batch_size=2)
    assert whole.shape == (3, 16, 16, 3) and whole.dtype.name == "uint8"
    assert abs(whole.astype(int) - parts).max() <= 1
