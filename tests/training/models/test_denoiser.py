"""One step of the service: guidance, the user on one half only, a family without an adapter, and a distilled U-Net."""

import pytest
import torch
from torch import Tensor

from tests.training.loud import make_loud
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.denoiser import DistilledDenoiser, PersonalisedDenoiser
from training.models.distilled import Distilled
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


def test_a_distilled_unet_takes_one_pass_and_reads_guidance_and_negative_prompt_in_its_text(
    unet, network, inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    z, t, text, negative = inputs
    distilled, no_text, user = Distilled(4.0, "", ""), torch.randn(1, 77, 12), torch.randn(B, 256)
    u = user[:, : network.user_encoder.width]
    denoise = DistilledDenoiser(unet, network, distilled, no_text)
    monkeypatch.setattr(unet, "conv_in", Counted(unet.conv_in))
    for negative_text, guidance in ((no_text.expand_as(text), torch.full((B, 1), 4.0)), (negative, GUIDANCE)):
        rows = unet.conv_in.rows
        eps = denoise(z, t[:, None], text, negative_text, user, guidance, SCALE)
        assert unet.conv_in.rows - rows == B  # no second half
        read = distilled.text(text, negative_text, no_text, guidance[:, None])
        expected = decode(unet, encode(unet, z, t, read), network(z, t, read, u, SCALE))
        torch.testing.assert_close(eps, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(distilled.text(text, no_text, no_text, 4.0), text)
    alone = DistilledDenoiser(unet, None, distilled, no_text)
    eps = alone(z, t[:, None], text, no_text.expand_as(text), user, torch.full((B, 1), 4.0), SCALE)
    torch.testing.assert_close(eps, unet(z, t, text).sample, atol=1e-5, rtol=1e-5)


class Counted(torch.nn.Module):
    """A layer that counts the rows it is given."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner, self.rows = inner, 0

    def forward(self, x: Tensor) -> Tensor:
        self.rows += len(x)
        return self.inner(x)
