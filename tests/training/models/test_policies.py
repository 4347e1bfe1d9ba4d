"""What objectives train: a noise prediction beside its frozen reference, with users and without."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from contract.feature_schema import FeatureSchema
from tests.training.loud import make_loud
from training.common.errors import WeightsError
from training.common.objectives import eps_mse
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.policies import AdaptedUNet, TunedUNet, to_draw_with


@pytest.fixture
def network(unet: UNet2DConditionModel, schema: FeatureSchema) -> PersonalisedAdaptiveNetwork:
    torch.manual_seed(2)
    return make_loud(PersonalisedAdaptiveNetwork.from_unet(unet, schema), 0.1)


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    users = torch.tensor([[1, 1, 0, 2], [2, 2, 3, 4], [0, 0, 0, 0]])
    return torch.randn(3, 4, 8, 8), torch.tensor([1, 500, 999]), torch.randn(3, 77, 12), users


def test_no_parameter_is_useless_and_none_belongs_to_the_unet(unet, network, inputs) -> None:
    z, t, text, user = inputs
    predicted = AdaptedUNet(unet, network)(z, t, text, user)
    eps_mse(torch.zeros_like(z), predicted.policy).sum().backward()
    without = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert not any("cond_embedding" in name for name in network.state_dict())
    assert all(p.grad is None and not p.requires_grad for p in unet.parameters())


def test_one_text_for_neighbours_is_that_text_for_each(unet, network) -> None:
    g, k = 2, 3
    z, t, target = torch.randn(g * k, 4, 8, 8), torch.arange(g * k) * 150, torch.randn(g * k, 4, 8, 8)
    text, users = torch.randn(g, 77, 12), torch.tensor([[1, 1, 0, 2], [2, 2, 3, 4]])
    policy, found = AdaptedUNet(unet, network), []
    for texts in (text, text.repeat_interleave(k, 0)):
        network.zero_grad()
        predicted = policy(z, t, texts, users)
        eps_mse(target, predicted.policy).sum().backward()
        gradients = [p.grad.clone() for p in network.parameters() if p.requires_grad]
        found.append([predicted.policy.detach(), predicted.reference, *gradients])
    for shared, own in zip(*found, strict=True):
        torch.testing.assert_close(shared, own, atol=1e-5, rtol=1e-4)
    of_first = policy(z[:k], t[:k], text[:1], users[:1].expand(k, -1)).policy  # one text, a user each
    torch.testing.assert_close(of_first, found[0][0][:k], atol=1e-5, rtol=1e-4)
    both = policy.of_reference(z[:k], t[:k], text[:1]), policy.of_reference(z[:k], t[:k], text[1:])
    assert not torch.allclose(*both, atol=1e-3)


def test_the_reference_and_whoever_has_no_user_are_the_plain_unet(unet, network, inputs) -> None:
    z, t, text, user = inputs
    policy = AdaptedUNet(unet, network)
    plain = unet(z, t, text).sample
    predicted = policy(z, t, text, user)
    assert torch.equal(predicted.reference, plain) and not torch.allclose(predicted.policy, plain, atol=1e-4)
    assert torch.equal(policy.without_user(z, t, text), plain)
    assert policy(z, t, text, user, with_reference=False).reference is None


def test_a_tuned_unet_ignores_users_and_leaves_its_reference_alone(unet, inputs) -> None:
    z, t, text, user = inputs
    policy = TunedUNet(unet)
    predicted = policy(z, t, text, user)
    assert torch.equal(predicted.policy, predicted.reference)
    eps_mse(torch.zeros_like(z), predicted.policy).sum().backward()
    assert all(p.grad is None for p in unet.parameters())
    with torch.no_grad():
        for parameter in policy.trained.parameters():
            parameter -= 0.01 * parameter.grad
    later, of_others = policy(z, t, text, user), policy(z, t, text, user.flip(0))
    assert torch.equal(later.reference, predicted.reference) and not torch.equal(later.policy, predicted.policy)
    assert torch.equal(later.policy, of_others.policy)


def test_what_draws_is_the_unet_by_itself_or_with_an_adapter_that_fits(unet, network, inputs, tmp_path: Path) -> None:
    z, t, text, user = inputs
    plain = to_draw_with(unet, None, network.user_encoder.schema)
    assert isinstance(plain, TunedUNet) and plain.unet is unet and plain.reference is unet
    adapter = AdaptedUNet(unet, network).save(tmp_path)
    personal = to_draw_with(unet, adapter, network.user_encoder.schema)
    assert isinstance(personal, AdaptedUNet) and not any(p.requires_grad for p in personal.parameters())
    drawn = (policy(z, t, text, user).policy for policy in (personal, AdaptedUNet(unet, network)))
    torch.testing.assert_close(*drawn, atol=5e-3, rtol=5e-3)
    with pytest.raises(WeightsError, match="another feature schema"):
        to_draw_with(unet, adapter, FeatureSchema(network.user_encoder.schema.features[:1]))
