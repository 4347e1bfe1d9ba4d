"""The personalised adaptive network: silent at first, trained in order, faithful on disk."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from contract.feature_schema import Feature, FeatureSchema
from training.common.errors import TopologyError, WeightsError
from training.common.objectives import eps_mse
from training.common.storage import origin_of
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.frozen_unet import decode, encode

B = 3


@pytest.fixture
def network(unet: UNet2DConditionModel, schema: FeatureSchema) -> PersonalisedAdaptiveNetwork:
    torch.manual_seed(2)
    return PersonalisedAdaptiveNetwork.from_unet(unet, schema)


@pytest.fixture
def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    users = torch.tensor([[1, 1, 0, 2], [2, 2, 3, 4], [0, 0, 0, 0]])
    return torch.randn(B, 4, 8, 8), torch.tensor([1, 500, 999]), torch.randn(B, 77, 12), users


def speak(network: PersonalisedAdaptiveNetwork) -> PersonalisedAdaptiveNetwork:
    """Give the zero convolutions weights, as training would."""
    for conv in network.zero_convs():
        torch.nn.init.normal_(conv.weight, std=0.1)
    return network


def test_before_training_the_adapter_adds_exactly_nothing(unet, network, inputs) -> None:
    z, t, text, user = inputs
    added = network(z, t, text, user)
    assert len(added.skips) == 12 and len(network.zero_convs()) == 14
    assert all(not residual.any() for residual in (*added.skips, added.middle))
    assert torch.equal(decode(unet, encode(unet, z, t, text), added), unet(z, t, text).sample)


def test_the_copy_starts_as_the_unets_encoder(unet, network) -> None:
    own = unet.state_dict()
    copied = {k: v for k, v in network.copy.state_dict().items() if "controlnet" not in k}
    assert copied and all(torch.equal(value, own[name]) for name, value in copied.items())


def test_gradient_arrives_from_the_outside_in(unet, schema, inputs) -> None:
    z, t, text, user = inputs
    network = PersonalisedAdaptiveNetwork.from_unet(unet, schema)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    target = torch.randn_like(z)
    outputs = [network.copy.controlnet_mid_block, *network.copy.controlnet_down_blocks]
    parts = {"outputs": outputs, "input": [network.input_zero_conv], "user": [network.user_encoder]}
    reached = []
    for _ in range(3):
        optimizer.zero_grad()
        eps = decode(unet, encode(unet, z, t, text), network(z, t, text, user))
        eps_mse(target, eps).sum().backward()
        reached.append({name for name, modules in parts.items() if _any_gradient(modules)})
        optimizer.step()
    assert reached == [{"outputs"}, {"outputs", "input"}, {"outputs", "input", "user"}]


def _any_gradient(modules: list[torch.nn.Module]) -> bool:
    gradients = [p.grad for module in modules for p in module.parameters()]
    return any(g is not None and bool(g.any()) for g in gradients)


def test_scale_is_per_sample_and_zero_switches_off(network, inputs) -> None:
    z, t, text, user = inputs
    once = speak(network)(z, t, text, user)
    scaled = network(z, t, text, user, torch.tensor([0.0, 1.0, 2.0]))
    for a, b in zip(once.skips, scaled.skips, strict=True):
        torch.testing.assert_close(b, a * torch.tensor([0.0, 1.0, 2.0]).view(3, 1, 1, 1))
    assert not scaled.middle[0].any() and scaled.middle[1].any()


def test_the_user_enters_before_the_copys_first_convolution(network, inputs) -> None:
    z, t, text, user = inputs
    u = speak(network).represent(user)
    m = network.user_map(u).view(B, 4, 8, 8)
    seen: list[Tensor] = []
    network.copy.conv_in.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    network(z, t, text, u)
    torch.testing.assert_close(seen[0], z + network.input_zero_conv(m))


def test_saved_and_loaded_it_is_the_same_to_half_precision(unet, network, inputs, schema, tmp_path: Path) -> None:
    z, t, text, user = inputs
    speak(network).save(tmp_path)
    loaded = PersonalisedAdaptiveNetwork.load(tmp_path, unet, schema)
    torch.testing.assert_close(loaded(z, t, text, user).middle, network(z, t, text, user).middle, atol=5e-3, rtol=5e-3)
    assert loaded.state_dict().keys() == network.state_dict().keys()


def test_an_adapter_for_something_else_is_refused(unet, network, make_unet, tmp_path: Path) -> None:
    network.save(tmp_path)
    other_schema = FeatureSchema((Feature("style", "categorical", ("plain",)),))
    with pytest.raises(WeightsError, match="feature schema"):
        PersonalisedAdaptiveNetwork.load(tmp_path, unet, other_schema)
    with pytest.raises(WeightsError, match="8×8 latents, the U-Net makes 16×16"):
        PersonalisedAdaptiveNetwork.load(tmp_path, make_unet(sample_size=16))
    with pytest.raises(WeightsError, match="block_out_channels"):
        PersonalisedAdaptiveNetwork.load(tmp_path, make_unet(block_out_channels=(8, 8, 8, 8)))
    torch.nn.init.ones_((other := make_unet()).conv_in.bias)  # of the same shape
    trained, given = (origin_of(one)["backbone"] for one in (unet, other))
    with pytest.raises(WeightsError, match=f"trained on the backbone {trained} .*, and {given} .* is given"):
        PersonalisedAdaptiveNetwork.load(tmp_path, other)
    (tmp_path / "adapter.safetensors").unlink()
    with pytest.raises(WeightsError, match="is missing"):
        PersonalisedAdaptiveNetwork.load(tmp_path, unet)


def test_weights_that_are_not_finite_are_not_saved(network, tmp_path: Path) -> None:
    network.user_map.bias.data[0] = float("nan")
    with pytest.raises(WeightsError, match="user_map.bias is not finite"):
        network.save(tmp_path)


def test_a_unet_of_another_topology_is_refused(schema, make_unet) -> None:
    with pytest.raises(TopologyError, match="layers_per_block is 1"):
        PersonalisedAdaptiveNetwork.from_unet(make_unet(layers_per_block=1), schema)


def test_files_that_are_no_adapter_are_refused_by_what_they_lack(unet, network, tmp_path: Path) -> None:
    network.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["latent_size"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match=r"is not an adapter: its config\.json lacks \['latent_size'\]"):
        PersonalisedAdaptiveNetwork.load(tmp_path, unet)
