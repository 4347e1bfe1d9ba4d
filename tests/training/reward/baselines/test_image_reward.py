"""ImageReward: the first token decides, padding does not, and the published names load."""

from pathlib import Path

import pytest
import torch
from transformers import BlipTextConfig, BlipVisionConfig

from training.common.errors import WeightsError
from training.reward.baselines.image_reward import (
    PUBLISHED_MEAN,
    PUBLISHED_STD,
    BlipShape,
    ImageReward,
    published_shape,
)

END = 7


@pytest.fixture
def shape() -> BlipShape:
    vision = BlipVisionConfig(
        hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=16
    )
    text = BlipTextConfig(
        vocab_size=10, hidden_size=12, encoder_hidden_size=16, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=40, bos_token_id=0, eos_token_id=END, sep_token_id=END,
    )  # fmt: skip
    return BlipShape(vision, text)


@pytest.fixture
def model(shape: BlipShape) -> ImageReward:
    torch.manual_seed(0)
    model = ImageReward(shape, END).eval()
    torch.nn.init.normal_(model.mlp.layers[0].weight)  # the published start is almost zero
    return model


PIXELS = torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
IDS = torch.tensor([[0, 3, 4, END, END, END], [0, 5, 1, 2, END, END]])


def test_padding_and_the_batch_change_nothing(model: ImageReward) -> None:
    scores = model(PIXELS, IDS)
    torch.testing.assert_close(scores[:1], model(PIXELS[:1], IDS[:1, :4]))
    torch.testing.assert_close(scores, model(PIXELS, torch.cat([IDS, torch.full((2, 5), END)], 1)))


def test_the_head_reads_the_first_token(model: ImageReward) -> None:
    seen = model.see(PIXELS[:, 0])
    states = model.text(input_ids=IDS[:1, :4], encoder_hidden_states=seen[:1]).last_hidden_state
    torch.testing.assert_close(model.attend(seen[:1], IDS[:1]), states[:, 0])


def test_rewards_are_normalised_by_a_reference_set(model: ImageReward) -> None:
    before = model(PIXELS, IDS)
    model.normalise_by(before)
    after = model(PIXELS, IDS)
    assert after.mean().item() == pytest.approx(0, abs=1e-4) and after.std().item() == pytest.approx(1, rel=1e-4)
    model.normalise_by(after)  # again by its own rewards: nothing moves
    torch.testing.assert_close(model(PIXELS, IDS), after, rtol=1e-3, atol=1e-4)


def published(name: str) -> str:
    """transformers' name of a tensor in the public code's words."""
    for ours, theirs in (
        ("vision.embeddings.class_embedding", "blip.visual_encoder.cls_token"),
        ("vision.embeddings.position_embedding", "blip.visual_encoder.pos_embed"),
        ("vision.embeddings.patch_embedding", "blip.visual_encoder.patch_embed.proj"),
        ("vision.post_layernorm", "blip.visual_encoder.norm"),
        ("vision.encoder.layers", "blip.visual_encoder.blocks"),
        ("layer_norm1", "norm1"),
        ("layer_norm2", "norm2"),
        ("self_attn.qkv", "attn.qkv"),
        ("self_attn.projection", "attn.proj"),
    ):
        name = name.replace(ours, theirs)
    return "blip.text_encoder." + name.removeprefix("text.") if name.startswith("text.") else name


def test_the_published_names_load(model: ImageReward, shape: BlipShape, tmp_path: Path) -> None:
    state = {published(name): value for name, value in model.state_dict().items() if name not in ("mean", "std")}
    state |= {"blip.vision_proj.weight": torch.zeros(2), "blip.text_encoder.embeddings.position_ids": torch.arange(40)}
    torch.save(state, tmp_path / "ImageReward.pt")
    loaded = ImageReward.from_published(tmp_path / "ImageReward.pt", shape, END).eval()
    expected = (model(PIXELS, IDS) - PUBLISHED_MEAN) / PUBLISHED_STD
    torch.testing.assert_close(loaded(PIXELS, IDS), expected)
    del state["mlp.layers.0.bias"]
    torch.save(state, tmp_path / "less.pt")
    with pytest.raises(WeightsError, match=r"missing \['mlp\.layers\.0\.bias'\]"):
        ImageReward.from_published(tmp_path / "less.pt", shape, END)


def test_the_published_shape_is_blip_large() -> None:
    with torch.device("meta"):
        shape = published_shape()
        model = ImageReward(shape, 102)
    assert sum(p.numel() for p in model.vision.parameters()) == 303_301_632  # ViT-L/16 at 224 px
    assert model.mlp.layers[0].in_features == 768
