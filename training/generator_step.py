"""One training step of the personalised adaptive network, as the maths has it.

All K images of a group share t and ε; the frozen encoder and middle block run once for reference
and policy. Knows the models and the objectives; nothing about data on disk, loops or optimizers.
"""

from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.frozen_unet import decode, encode
from training.noise import add_noise
from training.objectives import eps_mse


@dataclass(frozen=True)
class Batch:
    """B groups of K images with the noise that they get."""

    z_0: Tensor  # (B, K, C, S, S) clean latents
    text: Tensor  # (B, 77, D)
    features: Tensor  # (B, F)
    selected: Tensor  # (B, K)
    others: Tensor  # (B, K) the images that were shown and not selected
    t: Tensor  # (B,) one noise level a group
    eps: Tensor  # (B, C, S, S) one noise a group


@dataclass(frozen=True)
class Errors:
    """Mean squared errors of the noise prediction, fp32, (B, K)."""

    policy: Tensor  # m_θ, with the adapter
    reference: Tensor | None  # m_ref, the same U-Net without; no gradient; None if not asked for


def noise_errors(
    unet: UNet2DConditionModel,
    network: PersonalisedAdaptiveNetwork,
    batch: Batch,
    alphas_bar: Tensor,
    *,
    with_reference: bool = True,
) -> Errors:
    """m_θ and m_ref of every image."""
    b, k = batch.selected.shape
    z_t = add_noise(batch.z_0, batch.eps.unsqueeze(1), alphas_bar[batch.t]).flatten(0, 1)  # (B·K, C, S, S)
    t, text = batch.t.repeat_interleave(k), batch.text.repeat_interleave(k, 0)
    eps = batch.eps.repeat_interleave(k, 0)
    with torch.no_grad():
        encoded = encode(unet, z_t, t, text)
        reference = eps_mse(eps, decode(unet, encoded)).view(b, k) if with_reference else None
    u = network.represent(batch.features).repeat_interleave(k, 0)  # (B·K, d) a group has one user
    eps_theta = decode(unet, encoded, network(z_t, t, text, u))
    return Errors(eps_mse(eps, eps_theta).view(b, k), reference)
