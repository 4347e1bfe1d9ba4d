"""ImageReward (Xu et al., 2023): BLIP reads the prompt with the picture in cross-attention; an MLP head scores it.

Trained by the cross-entropy over all strictly ordered pairs; rewards are reported with mean 0 and standard
deviation 1 over a reference set. The head reads the first token, in training and in use (the public code's pair
mode trains on the last one). Knows BLIP's parts; no losses, no merchants.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import BlipTextConfig, BlipVisionConfig, BlipVisionModel
from transformers.models.blip.modeling_blip_text import BlipTextModel

from training.models.tokens import without_padding
from training.reward.baselines.aesthetics import RatingHead
from training.reward.baselines.checkpoint import fill, read_checkpoint, renamed

PUBLISHED_MEAN, PUBLISHED_STD = 0.16717362830052426, 1.0333394966054072


@dataclass(frozen=True)
class BlipShape:
    """Sizes of the two towers."""

    vision: BlipVisionConfig
    text: BlipTextConfig


def published_shape() -> BlipShape:
    """ViT-L/16 at 224 px and BERT base with cross-attention."""
    vision = BlipVisionConfig(
        hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16, image_size=224,
        patch_size=16, layer_norm_eps=1e-6,
    )  # fmt: skip
    return BlipShape(vision, BlipTextConfig(vocab_size=30_524, encoder_hidden_size=1024, num_attention_heads=12))


class ImageReward(nn.Module):
    """Rewards: pixels (B, K, 3, H, W), input_ids (B, T) → (B, K).

    Args:
        end_id: the token that ends a text; what follows the first one is padding.
    """

    def __init__(self, shape: BlipShape, end_id: int) -> None:
        super().__init__()
        self.vision = BlipVisionModel(shape.vision)
        self.text = BlipTextModel(shape.text, add_pooling_layer=False)
        self.mlp = RatingHead(shape.text.hidden_size)
        for name, parameter in self.mlp.named_parameters():
            if name.endswith("weight"):
                nn.init.normal_(parameter, std=1 / (shape.text.hidden_size + 1))
            else:
                nn.init.zeros_(parameter)
        self.end_id = end_id
        self.register_buffer("mean", torch.tensor(0.0))
        self.register_buffer("std", torch.tensor(1.0))

    def forward(self, pixels: Tensor, input_ids: Tensor, features: Tensor | None = None) -> Tensor:
        raw: Tensor = self.mlp(self.read(pixels, input_ids))
        return (raw - self.mean) / self.std

    def read(self, pixels: Tensor, input_ids: Tensor) -> Tensor:
        """The first token's state after cross-attention to the picture, (B, K, d)."""
        seen = self.see(pixels.flatten(0, 1))
        return self.attend(seen, input_ids.repeat_interleave(pixels.shape[1], 0)).unflatten(0, pixels.shape[:2])

    def see(self, pixels: Tensor) -> Tensor:
        """Patch states, the class token first: (N, 3, H, W) → (N, P, v)."""
        states: Tensor = self.vision(pixel_values=pixels).last_hidden_state
        return states

    def attend(self, seen: Tensor, input_ids: Tensor) -> Tensor:
        """The first token's state of each text (N, T) with cross-attention to its picture (N, P, v), (N, d)."""
        ids = without_padding(input_ids, self.end_id)
        ended = (ids == self.end_id).cumsum(1) - (ids == self.end_id).int()  # ends before this token
        states: Tensor = self.text(
            input_ids=ids, attention_mask=(ended == 0).long(),
            encoder_hidden_states=seen, encoder_attention_mask=seen.new_ones(seen.shape[:2]),
        ).last_hidden_state  # fmt: skip
        return states[:, 0]

    @torch.no_grad()
    def normalise_by(self, rewards: Tensor) -> None:
        """Normalises later rewards to mean 0 and deviation 1 over these, the rewards of a reference set."""
        raw = rewards * self.std + self.mean
        self.mean.copy_(raw.mean())
        self.std.copy_(raw.std().clamp(min=1e-6))

    @classmethod
    def from_published(cls, path: Path, shape: BlipShape | None = None, end_id: int = 102) -> "ImageReward":
        """The published `ImageReward.pt`, or one with the same names and other shapes.

        Raises:
            WeightsError: the file is for another model; names the first tensors that differ.
        """
        model = cls(shape or published_shape(), end_id)
        state = {renamed(name, _RENAMES): value for name, value in read_checkpoint(path).items()}
        state |= {"mean": torch.tensor(PUBLISHED_MEAN), "std": torch.tensor(PUBLISHED_STD)}
        fill(model, state, path, ignore=("blip.", "text.embeddings.position_ids", "text.pooler."))
        return model


_RENAMES = (
    (r"^blip\.text_encoder\.", "text."),
    (r"^blip\.visual_encoder\.", "vision."),
    (r"^vision\.cls_token", "vision.embeddings.class_embedding"),
    (r"^vision\.pos_embed", "vision.embeddings.position_embedding"),
    (r"^vision\.patch_embed\.proj", "vision.embeddings.patch_embedding"),
    (r"^vision\.norm\.", "vision.post_layernorm."),
    (r"^vision\.blocks\.", "vision.encoder.layers."),
    (r"^(vision\..*)\.norm(\d)\.", r"\1.layer_norm\2."),
    (r"^(vision\..*)\.attn\.qkv", r"\1.self_attn.qkv"),
    (r"^(vision\..*)\.attn\.proj", r"\1.self_attn.projection"),
)
