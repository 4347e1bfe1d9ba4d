"""The policies that the objectives train: a noise prediction ε_θ, and that of a frozen reference ε_ref.

AdaptedUNet is PerFusion's: a frozen U-Net and the personalised adaptive network. Its reference is the same U-Net
without residuals, so no second U-Net lies in memory, and one pass of the encoder serves both. SFT, Diffusion-DPO and
SPO train TunedUNet: a U-Net, with a frozen copy of its start as the reference. It accepts features and ignores them.
Neither knows objectives, data or noise schedules.
"""

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from contract.feature_schema import FeatureSchema
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.frozen_unet import decode, encode


@dataclass(frozen=True)
class Predicted:
    """Two predictions of the noise in the same latents, (B, C, S, S) each."""

    policy: Tensor  # ε_θ
    reference: Tensor | None  # ε_ref, no gradient; None if not asked for


class AdaptedUNet(nn.Module):
    """ε_θ = the frozen U-Net with the adaptive network's residuals; ε_ref = without."""

    def __init__(self, unet: UNet2DConditionModel, network: PersonalisedAdaptiveNetwork) -> None:
        super().__init__()
        self.unet, self.network = unet.eval().requires_grad_(False), network

    @property
    def trained(self) -> PersonalisedAdaptiveNetwork:
        """The part that trains; the only one that is saved."""
        return self.network

    def with_trained(self, network: nn.Module) -> "AdaptedUNet":
        """The same U-Net with other weights of the trained part, such as their average."""
        assert isinstance(network, PersonalisedAdaptiveNetwork)
        return AdaptedUNet(self.unet, network)

    def forward(
        self,
        z_t: Tensor,
        t: Tensor,
        text: Tensor,
        features: Tensor,
        *,
        with_reference: bool = True,
    ) -> Predicted:
        """For latents (B, C, S, S) at levels (B,); text (G, 77, D) and features (G, F), a row for B/G neighbours.

        One pass of the frozen encoder serves both.
        """
        with torch.no_grad():
            encoded = encode(self.unet, z_t, t, text)
            reference = decode(self.unet, encoded) if with_reference else None
        return Predicted(decode(self.unet, encoded, self.network(z_t, t, text, features)), reference)

    def without_user(self, z_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """The unconditional half of guidance: the plain U-Net."""
        return self.of_reference(z_t, t, text)

    def of_reference(self, z_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """ε_ref alone, (B, C, S, S)."""
        return decode(self.unet, encode(self.unet, z_t, t, text))

    def checkpoint_gradients(self) -> None:
        """Compute activations again in the backward pass instead of keeping them."""
        self.unet.enable_gradient_checkpointing()
        self.network.copy.enable_gradient_checkpointing()

    @property
    def origin(self) -> dict[str, str]:
        """The U-Net below the adapter, for origin.json."""
        return dict(self.network.origin)

    def save(self, directory: Path) -> Path:
        """As directory/adapter, which is returned."""
        self.network.save(directory / "adapter")
        return directory / "adapter"


class TunedUNet(nn.Module):
    """ε_θ = a U-Net that trains; ε_ref = the frozen one it started from."""

    def __init__(self, reference: UNet2DConditionModel, unet: UNet2DConditionModel | None = None) -> None:
        super().__init__()
        self.reference = reference.eval().requires_grad_(False)
        self.unet = unet or copy.deepcopy(reference).requires_grad_(True)

    @property
    def trained(self) -> UNet2DConditionModel:
        """The part that trains; the only one that is saved."""
        return self.unet

    def with_trained(self, unet: nn.Module) -> "TunedUNet":
        """The same reference beside other weights, such as their average."""
        assert isinstance(unet, UNet2DConditionModel)
        return TunedUNet(self.reference, unet)

    def forward(
        self,
        z_t: Tensor,
        t: Tensor,
        text: Tensor,
        features: Tensor,
        *,
        with_reference: bool = True,
    ) -> Predicted:
        """For latents (B, C, S, S) at levels (B,) with text (G, 77, D); ignores the features."""
        with torch.no_grad():
            reference = self.of_reference(z_t, t, text) if with_reference else None
        return Predicted(self.without_user(z_t, t, text), reference)

    def without_user(self, z_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """Both halves of guidance, each with its text."""
        return decode(self.unet, encode(self.unet, z_t, t, text))

    def of_reference(self, z_t: Tensor, t: Tensor, text: Tensor) -> Tensor:
        """ε_ref alone, (B, C, S, S)."""
        return decode(self.reference, encode(self.reference, z_t, t, text))

    def checkpoint_gradients(self) -> None:
        """Compute activations again in the backward pass instead of keeping them."""
        self.unet.enable_gradient_checkpointing()

    @property
    def origin(self) -> dict[str, str]:
        """Nothing: once trained, it stands alone."""
        return {}

    def save(self, directory: Path) -> Path:
        """As directory/unet in diffusers' format, which is returned."""
        self.unet.save_pretrained(directory / "unet")
        return directory / "unet"


Policy = AdaptedUNet | TunedUNet


def to_draw_with(unet: UNet2DConditionModel, adapter: Path | None, schema: FeatureSchema) -> Policy:
    """A frozen policy: the U-Net with the adapter of this directory, or by itself.

    Raises:
        WeightsError: the adapter does not fit the U-Net or the schema.
    """
    if adapter is None:
        return TunedUNet(unet, unet)
    return AdaptedUNet(unet, PersonalisedAdaptiveNetwork.load(adapter, unet, schema).eval().requires_grad_(False))
