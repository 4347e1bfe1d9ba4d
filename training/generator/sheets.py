"""A picture of what a generator draws while it trains: held-out prompts, one a row, from one noise each.

First column: the reference. The others: the adapter for one merchant a column, or the U-Net that trains.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from training.generator.batches import GeneratorBatches
from training.generator.sampling import Denoise, sample, to_images
from training.models.family import FamilyPaths
from training.models.policies import AdaptedUNet, Policy

PROMPTS, USERS = 4, 4


@torch.inference_mode()
def sheet(policy: Policy, family: FamilyPaths, held_out: GeneratorBatches, path: Path, guidance: float = 4.0) -> None:
    """Writes it as a PNG."""
    groups = held_out.groups
    rows = np.arange(min(PROMPTS, len(groups)))
    text = held_out.text.of(rows, np.zeros(len(rows), int))  # (R, 77, D)
    noise = torch.randn((len(rows), *held_out.latents.shape[2:]), generator=torch.Generator().manual_seed(1))
    vae, how = family.vae().to(held_out.device), {"guidance": guidance, "scheduler": family.noise_scheduler()}

    def column(conditional: Denoise, unconditional: Denoise) -> np.ndarray:  # (R, H, W, 3)
        return to_images(vae, sample(conditional, unconditional, text, held_out.no_text, noise.to(text.device), **how))

    columns = [column(policy.of_reference, policy.of_reference)]
    users = torch.tensor(groups.features[: USERS if isinstance(policy, AdaptedUNet) else 1], device=held_out.device)
    columns += [column(partial(_for_user, policy, user), policy.without_user) for user in users]
    strips = [np.concatenate(pictures, axis=1) for pictures in zip(*columns, strict=True)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(strips, axis=0)).save(path)


def _for_user(policy: Policy, user: Tensor, z_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
    noise: Tensor = policy(z_t, t, text, user.expand(len(z_t), -1), with_reference=False).policy
    return noise
