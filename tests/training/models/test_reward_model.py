"""PerFusionRM: the backbone untouched, the plug-in trained, the variants distinct."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import CLIPModel

from contract.feature_schema import FeatureSchema
from training.common.errors import TopologyError, WeightsError
from training.common.objectives import reward_cross_entropy
from training.models.plugin import AdaptiveNetwork
from training.models.reward_model import VARIANTS, PerFusionRM, RewardConfig, Variant

B, K = 2, 3


@pytest.fixture
def batch() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(1)
    ids = torch.full((B, 77), 49)
    ids[:, 0], ids[:, 1:4] = 48, torch.randint(0, 48, (B, 3))
    return torch.randn(B, K, 3, 32, 32), ids, torch.tensor([[1, 1, 0, 2], [2, 2, 3, 4]])


def speak(model: PerFusionRM) -> PerFusionRM:
    """Give the zero layers weights, as training would."""
    for module in model.modules():
        if isinstance(module, AdaptiveNetwork):
            torch.nn.init.normal_(module[-1].weight, std=0.3)
    return model


@pytest.mark.parametrize("variant", VARIANTS)
def test_before_training_it_is_the_backbone_bit_for_bit(
    clip: CLIPModel, schema: FeatureSchema, batch: tuple[Tensor, ...], variant: Variant
) -> None:
    pixels, ids, features = batch
    plain = copy.deepcopy(clip)
    model = PerFusionRM(clip, schema, RewardConfig(variant))
    text = plain.text_model(input_ids=ids).last_hidden_state
    image = plain.vision_model(pixel_values=pixels[:, 0]).last_hidden_state
    with model._personal("text", features), model._personal("vision", features):
        assert torch.equal(model.clip.text_model(input_ids=ids).last_hidden_state, text)
        assert torch.equal(model.clip.vision_model(pixel_values=pixels[:, 0]).last_hidden_state, image)
    assert torch.equal(model(pixels, ids, features), model(pixels, ids, None))


def test_scores_are_the_backbones_logits(clip, schema, batch) -> None:
    pixels, ids, features = batch
    scores = PerFusionRM(clip, schema)(pixels, ids, features)
    for group in range(B):
        logits = clip(input_ids=ids[group : group + 1], pixel_values=pixels[group])
        torch.testing.assert_close(scores[group], logits.logits_per_image[:, 0])


def test_only_the_plugin_trains_and_all_of_it_does(clip, schema, batch) -> None:
    pixels, ids, features = batch
    model = speak(PerFusionRM(clip, schema)).train()
    selected = torch.tensor([[True, False, False], [False, True, False]])
    reward_cross_entropy(model(pixels, ids, features), selected).sum().backward()
    trained = {n for n, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert trained == {n for n, _ in model.named_parameters() if n.startswith("plugins.")}
    assert not model.clip.training


def test_each_layer_gets_its_addition_after_attention_and_after_the_mlp(clip, schema, batch) -> None:
    pixels, _, features = batch
    model = speak(PerFusionRM(clip, schema))
    layer = clip.vision_model.encoder.layers[1]
    plugin = model.plugin_of("vision")
    seen: list[Tensor] = []
    layer.layer_norm2.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    layer.layer_norm1.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    model.embed_image(pixels[:, 0], features)
    before, after = seen
    u = plugin.represent(features)
    attended = layer.self_attn(layer.layer_norm1(before))[0] + plugin.attention[1](u)[:, None]
    torch.testing.assert_close(after, before + attended)


@pytest.mark.parametrize(
    ("variant", "text_moves", "image_moves"),
    [("full", 1, 1), ("shared", 1, 1), ("vision_only", 0, 1), ("text_only", 1, 0)],
)
def test_a_variant_personalises_its_towers_only(
    clip, schema, batch, variant: Variant, text_moves: int, image_moves: int
) -> None:
    pixels, ids, features = batch
    model = speak(PerFusionRM(clip, schema, RewardConfig(variant)))
    moved_text = not torch.equal(model.embed_text(ids, features), model.embed_text(ids, None))
    image = pixels[:, 0]
    moved_image = not torch.equal(model.embed_image(image, features), model.embed_image(image, None))
    assert (moved_text, moved_image) == (bool(text_moves), bool(image_moves))


def test_the_duplicated_plugins_share_nothing_and_the_shared_one_everything(clip, schema) -> None:
    full = PerFusionRM(clip, schema)
    assert full.plugin_of("text") is not full.plugin_of("vision")
    shared = PerFusionRM(clip, schema, RewardConfig("shared"))
    assert shared.plugin_of("text") is shared.plugin_of("vision")


def test_u_in_place_of_features_gives_the_same(clip, schema, batch) -> None:
    _, ids, features = batch
    model = speak(PerFusionRM(clip, schema))
    u = model.represent("text", features)
    assert torch.equal(model.embed_text(ids, u), model.embed_text(ids, features))


def test_gradient_checkpointing_gives_the_same_gradients(clip, schema, batch) -> None:
    pixels, ids, features = batch
    model = speak(PerFusionRM(clip, schema)).train()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            clip.activation_checkpointing_enable()
            clip.train()  # transformers checkpoints in training mode only; there is no dropout
        model.zero_grad()
        model(pixels, ids, features).square().sum().backward()
        gradients.append([p.grad.clone() for p in model.plugins.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("variant", VARIANTS)
def test_only_plugins_are_saved_and_they_come_back(clip, schema, batch, variant: Variant, tmp_path: Path) -> None:
    model = speak(PerFusionRM(clip, schema, RewardConfig(variant)))
    model.save(tmp_path)
    loaded = PerFusionRM.load(tmp_path, copy.deepcopy(clip), schema)
    torch.testing.assert_close(loaded(*batch), model(*batch), atol=2e-2, rtol=2e-2)
    assert loaded.config == model.config


def test_plugins_for_something_else_are_refused(clip, schema, tmp_path: Path) -> None:
    PerFusionRM(clip, schema).save(tmp_path)
    with pytest.raises(WeightsError, match="another feature schema"):
        PerFusionRM.load(tmp_path, clip, FeatureSchema(schema.features[:1]))
    with pytest.raises(TopologyError, match="unknown variant"):
        RewardConfig("both")  # type: ignore[arg-type]
