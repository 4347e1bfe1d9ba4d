"""One denoising step of the service: U-Net, PAN and classifier-free guidance.

The module behind the tensor contract's `denoiser`. The PAN acts on the conditional half only;
the unconditional half is the plain U-Net on the negative text. A family without a PAN expresses
taste in wishes alone: then `user` and `adapter_scale` have no effect. Knows no samplers.
"""

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn, stack

from training.models.adaptive_network import PersonalisedAdaptiveNetwork
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


def _on_second_half(added: Residuals) -> Residuals:
    """Zeros for the unconditional half, the adapter's residuals for the conditional one."""

    def widen(residual: Tensor) -> Tensor:
        return stack([torch.zeros_like(residual), residual]).flatten(0, 1)

    return Residuals(tuple(widen(skip) for skip in added.skips), widen(added.middle))
