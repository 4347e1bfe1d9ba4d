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
    wished_text: Tensor | None = None  # (B, 77, D) of the prompt with what the user would add


@dataclass(frozen=True)
class Errors:
    """Mean squared errors of the noise prediction, fp32, (B, K)."""

    policy: Tensor  # m_θ, with the adapter
    reference: Tensor | None  # m_ref, the same U-Net without; no gradient; None if not asked for


def distillation_errors(
    unet: UNet2DConditionModel, network: PersonalisedAdaptiveNetwork, batch: Batch, alphas_bar: Tensor
) -> Tensor:
    """mse(ε(x_t, t, y with wishes), ε_θ(x_t, t, y, u)) of the first image of each group, fp32, (B, 1).

    The target has no noise of its own: what is learnt in a step is the user's part alone.
    """
    assert batch.wished_text is not None
    z_t = add_noise(batch.z_0[:, 0], batch.eps, alphas_bar[batch.t])  # (B, C, S, S)
    with torch.no_grad():
        target = decode(unet, encode(unet, z_t, batch.t, batch.wished_text))
        encoded = encode(unet, z_t, batch.t, batch.text)
    added = network(z_t, batch.t, batch.text, network.represent(batch.features))
    return eps_mse(target, decode(unet, encoded, added)).unsqueeze(1)


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
