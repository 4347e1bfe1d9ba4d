"""One denoising step of the service: U-Net, PAN and classifier-free guidance.

The modules behind the tensor contract's `denoiser`. The PAN acts on the conditional half only;
the unconditional half is the plain U-Net on the negative text. A distilled U-Net needs no second half. A family without
a PAN expresses taste in wishes alone: then `user` and `adapter_scale` have no effect. Knows no samplers.
"""

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn, stack

from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.distilled import Distilled
from training.models.frozen_unet import Residuals, decode, encode


class PersonalisedDenoiser(nn.Module):
    """ε = ε_neg + guidance · (ε_cond − ε_neg), everything per sample."""

    def __init__(self, unet: UNet2DConditionModel, network: PersonalisedAdaptiveNetwork | None) -> None:
        super().__init__()
        self.unet, self.network = unet, network

    def forward(
        self,
        latents: Tensor,  # (B, C, S, S)
        timestep: Tensor,  # (B, 1) int64
        text: Tensor,  # (B, 77, D)
        negative_text: Tensor,  # (B, 77, D)
        user: Tensor,  # (B, d) u_gen, padded
        guidance: Tensor,  # (B, 1)
        adapter_scale: Tensor,  # (B, 1)
    ) -> Tensor:
        t = timestep[:, 0]  # (B,)
        added = None
        if self.network is not None:
            u = user[:, : self.network.user_encoder.width]
            added = _on_second_half(self.network(latents, t, text, u, adapter_scale))
        # One pass of 2B, the unconditional half first. Stacked, not concatenated: an exporter then sees one batch size.
        both = [stack(pair).flatten(0, 1) for pair in ([latents, latents], [t, t], [negative_text, text])]
        encoded = encode(self.unet, *both)
        eps = decode(self.unet, encoded, added)  # (2B, C, S, S)
        eps_neg, eps_cond = eps.unflatten(0, (2, -1))
        return eps_neg + guidance.view(-1, 1, 1, 1) * (eps_cond - eps_neg)


class DistilledDenoiser(nn.Module):
    """The same inputs in one pass of a distilled U-Net: guidance and negative text are in the text that it reads."""

    no_text: Tensor

    def __init__(
        self,
        unet: UNet2DConditionModel,
        network: PersonalisedAdaptiveNetwork | None,
        distilled: Distilled,
        no_text: Tensor,
    ) -> None:
        """`no_text` is the empty prompt's, (1, 77, D)."""
        super().__init__()
        self.unet, self.network, self.distilled = unet, network, distilled
        self.register_buffer("no_text", no_text)

    def forward(
        self,
        latents: Tensor,  # (B, C, S, S)
        timestep: Tensor,  # (B, 1) int64
        text: Tensor,  # (B, 77, D)
        negative_text: Tensor,  # (B, 77, D)
        user: Tensor,  # (B, d) u_gen, padded
        guidance: Tensor,  # (B, 1)
        adapter_scale: Tensor,  # (B, 1)
    ) -> Tensor:
        t = timestep[:, 0]  # (B,)
        read = self.distilled.text(text, negative_text, self.no_text, guidance.unsqueeze(2))
        added = None
        if self.network is not None:
            added = self.network(latents, t, read, user[:, : self.network.user_encoder.width], adapter_scale)
        return decode(self.unet, encode(self.unet, latents, t, read), added)


def _on_second_half(added: Residuals) -> Residuals:
    """Zeros for the unconditional half, the adapter's residuals for the conditional one."""

    def widen(residual: Tensor) -> Tensor:
        return stack([torch.zeros_like(residual), residual]).flatten(0, 1)

    return Residuals(tuple(widen(skip) for skip in added.skips), widen(added.middle))
