"""The LAION aesthetic predictor (Schuhmann, 2022): how good a picture looks, independent of the prompt.

A linear map in five steps, without nonlinearities, from the L2-normalised CLIP image embedding to a mean
rating on a scale of 1 to 10, trained by the squared error. Knows CLIP and its head; no prompts, no merchants.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import CLIPModel

from training.reward.baselines.checkpoint import fill, read_checkpoint

WIDTHS = (1024, 128, 64, 16, 1)
DROPOUT = (0.2, 0.2, 0.1)


class RatingHead(nn.Module):
    """e → 1024 → 128 → 64 → 16 → 1 with dropout between; `layers.0` … `layers.7` as published."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for place, out in enumerate(WIDTHS):
            layers.append(nn.Linear(width, out))
            layers += [nn.Dropout(DROPOUT[place])] if place < len(DROPOUT) else []
            width = out
        self.layers = nn.Sequential(*layers)

    def forward(self, embeddings: Tensor) -> Tensor:  # (…, e) → (…)
        rating: Tensor = self.layers(embeddings)
        return rating.squeeze(-1)


class Aesthetics(nn.Module):
    """Ratings of pictures: (B, K, 3, H, W) → (B, K). The CLIP under the head is frozen."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.clip = clip.eval().requires_grad_(False)
        self.head = RatingHead(clip.config.projection_dim)

    def forward(self, pixels: Tensor, input_ids: Tensor, features: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            pooled = self.clip.vision_model(pixel_values=pixels.flatten(0, 1)).pooler_output
            embeddings = normalize(self.clip.visual_projection(pooled), dim=-1)  # (B·K, e)
        rating: Tensor = self.head(embeddings)
        return rating.unflatten(0, pixels.shape[:2])

    @classmethod
    def from_published(cls, clip: CLIPModel, path: Path) -> "Aesthetics":
        """The published head (`sac+logos+ava1-l14-linearMSE.pth`) over CLIP ViT-L/14.

        Raises:
            WeightsError: the file is no such head, or the CLIP's embedding has another width.
        """
        model = cls(clip)
        fill(model.head, read_checkpoint(path), path)
        return model
