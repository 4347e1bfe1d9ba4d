"""Trains the VAE on drawings: 64×64×3 to 8×8×4, the factor of Stable Diffusion's own.

Taste depends on small details, and a pixel loss alone loses them first. So the loss is the pixel
error plus the distance in a perceptual network's activations (as in LPIPS) plus that network's
cross-entropy on the reconstruction; the judge of the gate is another network.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from lab.recogniser.drawings import drawings
from lab.recogniser.recogniser import (
    AttributeNet,
    Recogniser,
    accuracy_by_kind,
    attribute_loss,
    to_pixels,
)
from training.common.loop import fit, warmup_cosine
from training.generator.sampling import to_images


@dataclass(frozen=True)
class VaeRecipe:
    """How the VAE is trained."""

    seed: int = 303
    channels: tuple[int, ...] = (24, 48, 64, 64)  # of the four resolutions, 64² to 8²
    latent_channels: int = 4
    pool: int = 40_000
    steps: int = 2_600
    batch: int = 20
    lr: float = 1.2e-3
    kl_weight: float = 3e-4  # per latent number, against the mean pixel error
    feature_weight: float = 0.25
    attribute_weight: float = 0.05


def sketch() -> VaeRecipe:
    """The first phase: from scratch."""
    return VaeRecipe()


def polish() -> VaeRecipe:
    """The second phase, from the first one's weights: details weigh twice as much."""
    return VaeRecipe(seed=304, steps=1_500, lr=8e-4, feature_weight=0.5, attribute_weight=0.15, kl_weight=1.5e-4)


def build(recipe: VaeRecipe) -> AutoencoderKL:
    """An untrained VAE of Stable Diffusion's architecture."""
    levels = len(recipe.channels)
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=recipe.channels,
        layers_per_block=1,
        latent_channels=recipe.latent_channels,
        norm_num_groups=8,
        sample_size=64,
    )


def train(
    recipe: VaeRecipe,
    perceptual: AttributeNet,
    run_dir: Path,
    data_dir: Path,
    start: AutoencoderKL | None = None,
) -> AutoencoderKL:
    """Trains (or resumes) and sets the scaling factor, so that latents have unit variance.

    `start` is what a new run begins from; without it, from scratch.
    """
    pool = drawings(data_dir, recipe.pool, 101)
    torch.manual_seed(recipe.seed)
    vae = (start or build(recipe)).train().to(memory_format=torch.channels_last)
    perceptual.eval().requires_grad_(False)
    optimizer = torch.optim.AdamW(vae.parameters(), recipe.lr, weight_decay=1e-4, betas=(0.9, 0.98))
    schedule = warmup_cosine(optimizer, 100, recipe.steps, floor=0.01)

    def step(n: int) -> dict[str, float]:
        rng = np.random.default_rng((recipe.seed, 1, n))
        rows = np.sort(rng.integers(len(pool), size=recipe.batch))
        pixels = to_pixels(pool.images[rows]).contiguous(memory_format=torch.channels_last)
        indices = torch.as_tensor(pool.indices[rows])
        losses = vae_losses(recipe, vae, perceptual, pixels, indices, n)
        sum(losses.values(), torch.zeros(())).backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        return {name: loss.item() for name, loss in losses.items()}

    fit(run_dir, recipe.steps, step, {"vae": vae, "optimizer": optimizer, "schedule": schedule})
    vae = vae.eval().to(memory_format=torch.contiguous_format)
    vae.register_to_config(scaling_factor=float(1 / encode(vae, pool.images[:4_000]).std()))
    return vae


def gate(vae: AutoencoderKL, judge: Recogniser, run_dir: Path, data_dir: Path) -> dict[str, float]:
    """The judge's accuracy per kind on held-out reconstructions; also written to gate.json."""
    held_out = drawings(data_dir, 4_000, 102)
    latents = encode(vae, held_out.images) * vae.config.scaling_factor
    read = judge.read_indices(to_images(vae, latents))
    accuracy = accuracy_by_kind(read, held_out.indices)
    (run_dir / "gate.json").write_text(json.dumps(accuracy, indent=2) + "\n")
    return accuracy


def vae_losses(
    recipe: VaeRecipe,
    vae: AutoencoderKL,
    perceptual: AttributeNet,
    pixels: Tensor,
    indices: Tensor,
    seed: int,
) -> dict[str, Tensor]:
    """The weighted terms of the loss for pixels (B, 3, H, W) in [-1, 1] showing `indices`."""
    generator = torch.Generator().manual_seed(seed)
    with torch.autocast("cpu", torch.bfloat16):
        posterior = vae.encode(pixels).latent_dist
        decoded = vae.decode(posterior.sample(generator)).sample.float()
        with torch.no_grad():
            wanted = perceptual.features(pixels)
        seen = perceptual.features(decoded)
        logits = perceptual.classify(seen)
    return {
        "pixel": F.l1_loss(decoded, pixels) + F.mse_loss(decoded, pixels),
        "feature": recipe.feature_weight * feature_distance(seen, wanted),
        "attribute": recipe.attribute_weight * attribute_loss([x.float() for x in logits], indices),
        "kl": recipe.kl_weight * posterior.kl().mean() / posterior.mean[0].numel(),
    }


def feature_distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """The mean squared distance of channel-normalised activations, summed over the stages."""
    stages = [
        (F.normalize(x.float(), dim=1) - F.normalize(y.float(), dim=1)).square().sum(1).mean()
        for x, y in zip(a, b, strict=True)
    ]
    return torch.stack(stages).sum()


@torch.inference_mode()
def encode(vae: AutoencoderKL, images: np.ndarray, batch_size: int = 100) -> Tensor:
    """The posterior means of uint8 (N, H, W, 3), float32 (N, 4, S, S), not scaled."""
    parts = (images[at : at + batch_size] for at in range(0, len(images), batch_size))
    return torch.cat([vae.encode(to_pixels(part)).latent_dist.mean for part in parts])
