"""Trains an attribute network on drawings, blurred and noisy ones among them.

The judge and the VAE's perceptual network are two runs of it, with other widths, seeds and drawings.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lab.recogniser.drawings import Drawings, drawings
from lab.recogniser.recogniser import (
    AttributeNet,
    Recogniser,
    accuracy_by_kind,
    attribute_loss,
    to_pixels,
)
from training.common.loop import fit, warmup_cosine


@dataclass(frozen=True)
class RecogniserRecipe:
    """How one attribute network is trained."""

    seed: int
    width: int = 32  # channels of the first stage
    pool: int = 40_000  # drawings to learn from
    held_out: int = 4_000  # drawings to measure on
    steps: int = 2_500
    batch: int = 64
    lr: float = 2e-3
    weight_decay: float = 1e-2


def judge() -> RecogniserRecipe:
    """The independent judge."""
    return RecogniserRecipe(seed=101)


def perceptual() -> RecogniserRecipe:
    """The network inside the VAE's loss: half as wide, other drawings, a shorter training."""
    return RecogniserRecipe(seed=202, width=24, steps=1_200)


def train(recipe: RecogniserRecipe, run_dir: Path, data_dir: Path) -> Recogniser:
    """Trains (or resumes) in `run_dir` and writes accuracy.json there, one share per kind."""
    pool = drawings(data_dir, recipe.pool, recipe.seed)
    torch.manual_seed(recipe.seed)
    net = AttributeNet(recipe.width)
    optimizer = torch.optim.AdamW(net.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    schedule = warmup_cosine(optimizer, 100, recipe.steps)

    def step(n: int) -> dict[str, float]:
        rng = np.random.default_rng((recipe.seed, 1, n))
        rows = np.sort(rng.integers(len(pool), size=recipe.batch))
        pixels = degrade(to_pixels(pool.images[rows]), rng)
        loss = attribute_loss(net(pixels), torch.as_tensor(pool.indices[rows]))
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        return {"loss": loss.item()}

    fit(run_dir, recipe.steps, step, {"net": net, "optimizer": optimizer, "schedule": schedule})
    recogniser = Recogniser(net)
    held_out = drawings(data_dir, recipe.held_out, recipe.seed + 1)
    (run_dir / "accuracy.json").write_text(json.dumps(measure(recogniser, held_out), indent=2))
    return recogniser


def measure(recogniser: Recogniser, held_out: Drawings) -> dict[str, float]:
    """The accuracy per kind and overall on these drawings."""
    return accuracy_by_kind(recogniser.read_indices(held_out.images), held_out.indices)


def degrade(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Half of the pictures blurred and noisy, as decoded ones are; (B, 3, H, W) in and out."""
    half = len(pixels) // 2
    soft = F.avg_pool2d(F.pad(pixels[:half], (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    mix = torch.as_tensor(rng.uniform(0, 0.8, (half, 1, 1, 1)), dtype=torch.float32)
    noise = torch.as_tensor(rng.normal(0, 0.08, tuple(soft.shape)), dtype=torch.float32)
    return torch.cat([pixels[:half].lerp(soft, mix) + noise, pixels[half:]])
