"""One step of the service: guidance, the user on one half only, and a family without an adapter."""

import pytest
import torch
from torch import Tensor

from tests.training.loud import make_loud
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.denoiser import PersonalisedDenoiser
from training.models.frozen_unet import decode, encode

B = 3
GUIDANCE, SCALE = torch.tensor([[1.0], [4.0], [7.5]]), torch.tensor([[1.0], [0.5], [0.0]])


@pytest.fixture
def network(unet, schema) -> PersonalisedAdaptiveNetwork:
    torch.manual_seed(2)
    return make_loud(PersonalisedAdaptiveNetwork.from_unet(unet, schema), 0.1)


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    text, negative = torch.randn(B, 77, 12), torch.randn(B, 77, 12)
    return torch.randn(B, 4, 8, 8), torch.tensor([1, 500, 999]), text, negative


def guided(eps_neg: Tensor, eps_cond: Tensor) -> Tensor:
    return eps_neg + GUIDANCE.view(B, 1, 1, 1) * (eps_cond - eps_neg)


def test_the_denoiser_guides_the_personalised_half_only(unet, network, inputs) -> None:
    z, t, text, negative = inputs
    u = network.represent(torch.tensor([[1, 1, 0, 2], [2, 2, 3, 4], [0, 0, 0, 0]]))
    eps_cond = decode(unet, encode(unet, z, t, text), network(z, t, text, u, SCALE))
    expected = guided(unet(z, t, negative).sample, eps_cond)
    eps = PersonalisedDenoiser(unet, network)(z, t[:, None], text, negative, u, GUIDANCE, SCALE)
    torch.testing.assert_close(eps, expected, atol=1e-5, rtol=1e-5)


def test_what_lies_beyond_the_width_in_use_is_not_read(unet, network, inputs) -> None:
    z, t, text, negative = inputs
    u = torch.randn(B, network.user_encoder.width)
    denoise = PersonalisedDenoiser(unet, network)
    plain, padded, odd = (
        denoise(z, t[:, None], text, negative, torch.cat([u, beyond], 1), GUIDANCE, SCALE)
        for beyond in (u[:, :0], torch.zeros(B, 40), torch.full((B, 40), 1e6))
    )
    assert torch.equal(plain, padded) and torch.equal(plain, odd)


def test_without_an_adapter_it_is_the_plain_unet_with_guidance_whoever_the_user_is(unet, inputs) -> None:
    z, t, text, negative = inputs
    expected = guided(unet(z, t, negative).sample, unet(z, t, text).sample)
    denoise = PersonalisedDenoiser(unet, None)
    for user in (torch.zeros(B, 256), torch.randn(B, 256)):
        eps = denoise(z, t[:, None], text, negative, user, GUIDANCE, SCALE)
        torch.testing.assert_close(eps, expected, atol=1e-5, rtol=1e-5)
