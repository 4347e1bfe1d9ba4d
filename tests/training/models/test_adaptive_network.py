"""The personalised adaptive network: silent at first, trained in order, faithful on disk."""

import copy
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTextModel

from contract.feature_schema import Feature, FeatureSchema
from training.common.errors import TopologyError, WeightsError
from training.common.objectives import eps_mse
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.denoiser import PersonalisedDenoiser
from training.models.frozen_unet import decode, encode, load_unet
from training.models.policies import AdaptedUNet
from training.models.user_prompt import Language

B = 3


@pytest.fixture
def language(text_encoder: CLIPTextModel) -> Language:
    return Language([("sleeve", [3, 4]), ("sleeve", [5]), ("trim", [6])], 1, text_encoder)


@pytest.fixture(params=[False, True], ids=["paper", "user_prompt"])
def network(
    unet: UNet2DConditionModel,
    schema: FeatureSchema,
    language: Language,
    request: pytest.FixtureRequest,
) -> PersonalisedAdaptiveNetwork:
    torch.manual_seed(2)
    return PersonalisedAdaptiveNetwork.from_unet(unet, schema, language=language if request.param else None)


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


def test_taking_the_unet_apart_changes_no_bit(unet, network, inputs) -> None:
    z, t, text, user = inputs
    encoded = encode(unet, z, t, text)
    assert torch.equal(decode(unet, encoded), unet(z, t, text).sample)
    added = speak(network)(z, t, text, user)
    whole = unet(
        z,
        t,
        text,
        down_block_additional_residuals=added.skips,
        mid_block_additional_residual=added.middle,
    ).sample
    assert torch.equal(decode(unet, encoded, added), whole)


@pytest.mark.parametrize("sides", [(8, 12), (10, 6)])
def test_sides_that_do_not_halve_evenly_work_as_in_the_unet(unet, sides: tuple[int, int]) -> None:
    z, t, text = torch.randn(1, 4, *sides), torch.tensor([3]), torch.randn(1, 77, 12)
    assert torch.equal(decode(unet, encode(unet, z, t, text)), unet(z, t, text).sample)


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


def test_no_parameter_is_useless_and_none_belongs_to_the_unet(unet, network, inputs) -> None:
    z, t, text, user = inputs
    predicted = AdaptedUNet(unet, speak(network))(z, t, text, user)
    eps_mse(torch.zeros_like(z), predicted.policy).sum().backward()
    without = [name for name, p in network.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    assert not any("cond_embedding" in name for name in network.state_dict())
    assert all(p.grad is None and not p.requires_grad for p in unet.parameters())


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


def test_one_text_for_neighbours_is_that_text_for_each(unet, network, schema) -> None:
    g, k = 2, 3
    z, t, target = torch.randn(g * k, 4, 8, 8), torch.arange(g * k) * 150, torch.randn(g * k, 4, 8, 8)
    text, users = torch.randn(g, 77, 12), torch.tensor([[1, 1, 0, 2], [2, 2, 3, 4]])
    policy, found = AdaptedUNet(unet, speak(network)), []
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


def test_the_user_enters_before_the_copys_first_convolution(network, inputs) -> None:
    z, t, text, user = inputs
    u = speak(network).represent(user)
    m = network.user_map(u).view(B, 4, 8, 8)
    seen: list[Tensor] = []
    network.copy.conv_in.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    network(z, t, text, u)
    torch.testing.assert_close(seen[0], z + network.input_zero_conv(m))


def test_a_prompt_tells_the_user_even_when_the_map_is_silent(unet, schema, language, inputs) -> None:
    z, t, text, user = inputs
    told = []
    for spoken in (None, language):
        torch.manual_seed(2)
        network = speak(PersonalisedAdaptiveNetwork.from_unet(unet, schema, language=spoken))
        if network.user_prompt is not None:
            torch.nn.init.normal_(network.user_prompt.favour[-1].weight)  # users who favour something
            assert torch.equal(network.prompt_for(text, user), text)  # untrained: no change
            torch.nn.init.ones_(network.user_prompt.voice)
            assert torch.equal(network.prompt_for(text, user, torch.zeros(B, 1)), text)  # nor without scale
        torch.nn.init.zeros_(network.input_zero_conv.weight)
        one, other = (AdaptedUNet(unet, network)(z, t, text, users).policy for users in (user, user.flip(0)))
        told.append(not torch.equal(one[0], other[0]))
    assert told == [False, True]


def test_noise_lets_neighbours_of_one_user_differ(unet, network, inputs) -> None:
    z, t, text, user = inputs
    speak(network)
    if network.user_prompt is not None:
        torch.nn.init.ones_(network.user_prompt.voice)
        torch.nn.init.normal_(network.user_prompt.favour[-1].weight)
    z, t, many = z.repeat_interleave(2, 0), t.repeat_interleave(2), torch.zeros(2 * B, network.n_phrases)
    many[1::2, :1] = 1_000.0  # the first phrase, whoever the user is
    policy = AdaptedUNet(unet, network)
    with torch.no_grad():
        plain, chosen = policy(z, t, text, user).policy, policy(z, t, text, user, choice_noise=many).policy
    torch.testing.assert_close(chosen[::2], plain[::2])
    changed = [not torch.allclose(*pair) for pair in zip(chosen[1::2], plain[1::2], strict=True)]
    assert any(changed) is (network.user_prompt is not None)


def test_saved_and_loaded_it_is_the_same_to_half_precision(unet, network, inputs, schema, tmp_path: Path) -> None:
    z, t, text, user = inputs
    if network.user_prompt is not None:
        torch.nn.init.ones_(network.user_prompt.voice)
    speak(network).save(tmp_path)
    loaded = PersonalisedAdaptiveNetwork.load(tmp_path, unet, schema)
    torch.testing.assert_close(loaded(z, t, text, user).middle, network(z, t, text, user).middle, atol=5e-3, rtol=5e-3)
    said = [one.prompt_for(text, user) for one in (loaded, network)]
    torch.testing.assert_close(*said, atol=2e-2, rtol=2e-2)
    assert loaded.state_dict().keys() == network.state_dict().keys()


def test_a_silent_adapter_is_saved_without_its_copy(unet, network, inputs, schema, tmp_path: Path) -> None:
    z, t, text, user = inputs
    assert network.silent and not speak(copy.deepcopy(network)).silent
    network.input_zero_conv.weight.data.fill_(1.0)  # what comes in does not come out
    assert network.silent
    if network.user_prompt is not None:
        torch.nn.init.ones_(network.user_prompt.voice)
    network.save(tmp_path / "silent")
    assert not any(name.startswith("copy.") for name in load_file(tmp_path / "silent" / "adapter.safetensors"))
    loaded = PersonalisedAdaptiveNetwork.load(tmp_path / "silent", unet, schema)
    with torch.no_grad():
        found, wanted = (AdaptedUNet(unet, one)(z, t, text, user).policy for one in (loaded, network))
    torch.testing.assert_close(found, wanted, atol=2e-2, rtol=2e-2)
    torch.testing.assert_close(AdaptedUNet(unet, network)(z, t, text, user).policy, wanted)  # as with gradients
    speak(network).save(tmp_path / "speaking")
    again = PersonalisedAdaptiveNetwork.load(tmp_path / "speaking", unet, schema)
    assert again(z, t, text, user).middle.any()


def test_an_adapter_for_something_else_is_refused(unet, network, make_unet, tmp_path: Path) -> None:
    network.save(tmp_path)
    other_schema = FeatureSchema((Feature("style", "categorical", ("plain",)),))
    with pytest.raises(WeightsError, match="feature schema"):
        PersonalisedAdaptiveNetwork.load(tmp_path, unet, other_schema)
    with pytest.raises(WeightsError, match="8×8 latents, the U-Net makes 16×16"):
        PersonalisedAdaptiveNetwork.load(tmp_path, make_unet(sample_size=16))
    with pytest.raises(WeightsError, match="block_out_channels"):
        PersonalisedAdaptiveNetwork.load(tmp_path, make_unet(block_out_channels=(8, 8, 8, 8)))
    (tmp_path / "adapter.safetensors").unlink()
    with pytest.raises(WeightsError, match="is missing"):
        PersonalisedAdaptiveNetwork.load(tmp_path, unet)


def test_weights_that_are_not_finite_are_not_saved(network, tmp_path: Path) -> None:
    network.user_map.bias.data[0] = float("nan")
    with pytest.raises(WeightsError, match="user_map.bias is not finite"):
        network.save(tmp_path)


def test_a_unet_of_another_topology_is_refused_by_what_differs(schema, make_unet, tmp_path: Path) -> None:
    with pytest.raises(TopologyError, match="layers_per_block is 1"):
        PersonalisedAdaptiveNetwork.from_unet(make_unet(layers_per_block=1), schema)
    with pytest.raises(TopologyError, match="class_embed_type"):
        PersonalisedAdaptiveNetwork.from_unet(make_unet(class_embed_type="timestep"), schema)
    with pytest.raises(TopologyError, match="no config.json"):
        load_unet(tmp_path)


def test_a_saved_unet_loads_frozen(unet, tmp_path: Path) -> None:
    unet.save_pretrained(tmp_path)
    assert not any(p.requires_grad for p in load_unet(tmp_path).parameters())


def test_the_denoiser_guides_the_personalised_half_only(unet, network, inputs) -> None:
    z, t, text, user = inputs
    u, negative = speak(network).represent(user), torch.randn(B, 77, 12)
    guidance, scale = torch.tensor([[1.0], [4.0], [7.5]]), torch.tensor([[1.0], [0.5], [0.0]])
    eps_neg = unet(z, t, negative).sample
    if network.user_prompt is not None:
        torch.nn.init.ones_(network.user_prompt.voice)
    luck = torch.randn(B, network.n_phrases)
    said = network.prompt_for(text, u, scale, luck)
    assert torch.equal(said[2], text[2])
    eps_cond = decode(unet, encode(unet, z, t, said), network(z, t, said, u, scale))
    expected = eps_neg + guidance.view(B, 1, 1, 1) * (eps_cond - eps_neg)
    eps = PersonalisedDenoiser(unet, network)(z, t[:, None], text, negative, u, guidance, scale, luck)
    torch.testing.assert_close(eps, expected, atol=1e-5, rtol=1e-5)
