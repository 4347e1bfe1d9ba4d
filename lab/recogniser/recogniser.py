"""The attribute recogniser: recognises a garment's attributes in a picture, as an independent judge.

Trained on drawings only (with blur and noise, so that it also works on decoded pictures) and never
used by a model that it judges. `AttributeNet` is also the architecture of the perceptual network
of the VAE's loss, which is another instance: other width, other seed, other drawings.

Knows pixels and attributes; neither merchants nor generators.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from lab.market.attributes import ABSENT, ATTRIBUTES, KINDS, applies, from_indices
from training.common.errors import reading
from training.common.storage import read_config

JUDGE = Path("lab/recogniser/weights")  # the published one, which judges


class AttributeNet(nn.Module):
    """A convolutional classifier with one head for each attribute kind.

    Args:
        width: channels of the first layer.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.width = width
        widths = (3, width, 2 * width, 3 * width, 4 * width)
        self.stages = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(a, b, 4, stride=2, padding=1), nn.GroupNorm(8, b), nn.SiLU(),
                nn.Conv2d(b, b, 3, padding=1), nn.GroupNorm(8, b), nn.SiLU(),
            )
            for a, b in zip(widths[:-1], widths[1:], strict=True)
        )  # fmt: skip
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(widths[-1] * 16, 128), nn.SiLU())
        self.heads = nn.ModuleList(nn.Linear(128, len(a.values)) for a in ATTRIBUTES)

    def features(self, pixels: Tensor) -> list[Tensor]:
        """The activations of the four stages for pixels (B, 3, 64, 64) in [-1, 1]."""
        hidden: list[Tensor] = []
        for stage in self.stages:
            pixels = stage(pixels)
            hidden.append(pixels)
        return hidden

    def forward(self, pixels: Tensor) -> list[Tensor]:
        """One (B, n_values) tensor of logits for each kind of KINDS."""
        return self.classify(self.features(pixels))

    def classify(self, features: list[Tensor]) -> list[Tensor]:
        """The logits from what `features` returned."""
        body = self.body(features[-1])
        return [head(body) for head in self.heads]


def attribute_loss(logits: Sequence[Tensor], indices: Tensor) -> Tensor:
    """The mean cross-entropy over the kinds; `indices` (B, len(KINDS)), ABSENT ignored.

    A kind that no picture of the batch has counts 0.
    """
    losses = [
        F.cross_entropy(kind_logits, indices[:, k], ignore_index=ABSENT, reduction="sum")
        / (indices[:, k] != ABSENT).sum().clamp(min=1)
        for k, kind_logits in enumerate(logits)
    ]
    return torch.stack(losses).mean()


def to_pixels(images: np.ndarray | Tensor) -> Tensor:
    """uint8 (B, H, W, 3) to float (B, 3, H, W) in [-1, 1]."""
    return torch.as_tensor(images).permute(0, 3, 1, 2).float() / 127.5 - 1.0


class Recogniser:
    """Reads attributes from pictures with trained weights."""

    def __init__(self, net: AttributeNet) -> None:
        self.net = net.eval()

    @classmethod
    def load(cls, directory: Path) -> "Recogniser":
        """From a directory with config.json and recogniser.safetensors."""
        config = read_config(directory)
        if tuple(config["kinds"]) != KINDS:
            raise ValueError(f"{directory}: trained for the kinds {config['kinds']}, not {KINDS}")
        net = AttributeNet(config["width"])
        with reading(directory):
            weights = load_file(directory / "recogniser.safetensors")
            net.load_state_dict({name: w.float() for name, w in weights.items()})
        return cls(net)

    def save(self, directory: Path) -> None:
        """As fp16 safetensors, with the kinds it was trained for."""
        directory.mkdir(parents=True, exist_ok=True)
        config = {"kinds": KINDS, "width": self.net.width}
        (directory / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        weights = {n: w.half().contiguous() for n, w in self.net.state_dict().items()}
        save_file(weights, directory / "recogniser.safetensors")

    @torch.inference_mode()
    def read_indices(self, images: np.ndarray, batch_size: int = 256) -> np.ndarray:
        """The most likely value per kind, int64 (N, len(KINDS)), for uint8 (N, 64, 64, 3).

        Kinds that do not exist on the recognised category are still read; `read` drops them.
        """
        batches = [
            torch.stack([logits.argmax(1) for logits in self.net(to_pixels(part))], 1)
            for part in torch.as_tensor(images).split(batch_size)
        ]
        return torch.cat(batches).numpy()

    def read(self, images: np.ndarray) -> list[dict[str, str]]:
        """The garment on each picture, absent kinds left out."""
        return [_consistent(from_indices(row)) for row in self.read_indices(images)]


def _consistent(read: dict[str, str]) -> dict[str, str]:
    return {kind: value for kind, value in read.items() if kind == "category" or applies(kind, read)}


def prompt_accuracy(asked: dict[str, str], garments: Sequence[dict[str, str]]) -> float:
    """The share of asked-for attribute values that are present, over all pictures of a group."""
    hits = [garment.get(kind) == value for garment in garments for kind, value in asked.items()]
    return float(np.mean(hits))


def accuracy_by_kind(read: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The share recognised correctly, for each kind over the pictures that have it, and overall."""
    present = truth != ABSENT
    right = (read == truth) & present
    by_kind = {kind: float(right[:, k].sum() / present[:, k].sum()) for k, kind in enumerate(KINDS)}
    return {**by_kind, "overall": float(right.sum() / present.sum())}
