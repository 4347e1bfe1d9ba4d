"""The seven models of the tensor contract as torch modules with exactly its inputs and outputs.

Batch dimension first. VAE scaling, pixel ranges, resizing and normalisation are inside the graphs,
so clients need not know them. Widths that follow from the feature schema or the vocabulary are
padded to the contract's: entries beyond those in use are zero, and the graphs ignore them.
Knows nothing about ONNX.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTextModel

from training.exporting.tensor_contract import Contract
from training.models.denoiser import DistilledDenoiser, PersonalisedDenoiser
from training.models.family import FamilyPaths
from training.models.feature_crossing import UserEncoder
from training.models.preprocess import Preprocess
from training.models.reward_model import PerFusionRM
from training.models.tokens import encode
from training.wishes.preferences import PreferenceWeights


class UserEncoders(nn.Module):
    """Features → the user representations u, one for each model that reads one, and the favours of all phrases."""

    def __init__(
        self,
        reward_model: PerFusionRM,
        generator: UserEncoder | None,
        preferences: PreferenceWeights | None,
        contract: Contract,
    ) -> None:
        super().__init__()
        self.reward_model, self.generator, self.preferences = reward_model, generator, preferences
        self.n_slots = reward_model.schema.n_slots
        self.widths = {spec.name: spec.shape[0] for spec in contract.outputs}

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        features = features[:, : self.n_slots]
        nothing = features[:, :1].float() * 0  # (B, 1), where the family has no such part
        outputs = {
            "reward_text_user": self.reward_model.represent("text", features),  # (B, d)
            "reward_image_user": self.reward_model.represent("vision", features),  # (B, d)
            "generator_user": nothing if self.generator is None else self.generator(features),  # (B, d)
            "favours": nothing if self.preferences is None else self.preferences(features),  # (B, V)
        }
        text, image, generator, favours = (
            F.pad(value, (0, self.widths[name] - value.shape[1])) for name, value in outputs.items()
        )
        return text, image, generator, favours


class TextStates(nn.Module):
    """Token ids → text states for cross-attention."""

    def __init__(self, text_encoder: CLIPTextModel) -> None:
        super().__init__()
        self.text_encoder = text_encoder

    def forward(self, input_ids: Tensor) -> Tensor:  # (B, 77) -> (B, 77, D)
        states: Tensor = self.text_encoder(input_ids=input_ids).last_hidden_state
        return states


class PictureDecoder(nn.Module):
    """Latents at the U-Net's scale → picture."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae, self.scale = vae, vae.config.scaling_factor

    def forward(self, latents: Tensor) -> Tensor:  # (B, C, S, S) -> (B, H, W, 3) uint8
        pixels = self.vae.decode(latents / self.scale, return_dict=False)[0].clamp(-1, 1)
        image = ((pixels + 1) * 127.5).round()
        return image.permute(0, 2, 3, 1).to(torch.uint8)


class PictureEncoder(nn.Module):
    """Picture → mean latents at the U-Net's scale."""

    def __init__(self, vae: AutoencoderKL) -> None:
        super().__init__()
        self.vae, self.scale = vae, vae.config.scaling_factor

    def forward(self, image: Tensor) -> Tensor:  # (B, H, W, 3) uint8 -> (B, C, S, S)
        pixels = image.float().permute(0, 3, 1, 2) / 127.5 - 1  # TensorRT takes bytes for inputs and casts alone
        mean: Tensor = self.vae.encode(pixels, return_dict=False)[0].mean
        return mean * self.scale


class RewardText(nn.Module):
    """PerFusionRM's text tower."""

    def __init__(self, model: PerFusionRM) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, user: Tensor) -> Tensor:  # (B, 77), (B, d) -> (B, e)
        return self.model.embed_text(input_ids, user[:, : self.model.user_width])


class RewardImage(nn.Module):
    """PerFusionRM's vision tower behind its preprocessing."""

    def __init__(self, model: PerFusionRM, preprocess: Preprocess) -> None:
        super().__init__()
        self.model, self.preprocess = model, preprocess

    def forward(self, image: Tensor, user: Tensor) -> Tensor:  # (B, H, W, 3), (B, d) -> (B, e)
        return self.model.embed_image(self.preprocess(image), user[:, : self.model.user_width])


def build_reward_image(paths: FamilyPaths) -> nn.Module:
    """`reward_image`."""
    model = paths.reward_model()
    return RewardImage(model, paths.preprocess(model.clip))


def build_denoiser(paths: FamilyPaths) -> nn.Module:
    """`denoiser`."""
    unet, distilled = paths.backbone_unet(), paths.distilled()
    network = paths.perfusion(unet)
    if distilled is None:
        return PersonalisedDenoiser(unet, network)
    ids = torch.from_numpy(encode(paths.tokenizer(), [""]))
    return DistilledDenoiser(unet, network, distilled, TextStates(paths.text_encoder())(ids))


def build_user_encoder(paths: FamilyPaths, contract: Contract) -> nn.Module:
    """`user_encoder`."""
    network = paths.perfusion(paths.backbone_unet()) if paths.adapter.exists() else None
    weights = None
    if paths.preferences.exists():
        weights = PreferenceWeights.load(paths.preferences, paths.schema(), paths.vocabulary()).eval()
    return UserEncoders(paths.reward_model(), network.user_encoder if network else None, weights, contract)


BUILDERS: dict[str, Callable[[FamilyPaths, Contract], nn.Module]] = {
    "denoiser": lambda paths, _: build_denoiser(paths),  # first: it takes longest
    "vae_decoder": lambda paths, _: PictureDecoder(paths.vae()),
    "vae_encoder": lambda paths, _: PictureEncoder(paths.vae()),
    "user_encoder": build_user_encoder,
    "text_encoder": lambda paths, _: TextStates(paths.text_encoder()),
    "reward_text": lambda paths, _: RewardText(paths.reward_model()),
    "reward_image": lambda paths, _: build_reward_image(paths),
}
SOURCES: dict[str, Callable[[FamilyPaths], list[Path]]] = {  # what a model's numbers depend on
    "denoiser": lambda p: [
        p.backbone_files,
        *([p.adapter, p.feature_schema] if p.adapter.exists() else []),
        *([p.pipeline / "text_encoder", p.pipeline / "tokenizer"] if p.distilled() else []),  # of the empty prompt
    ],
    "vae_decoder": lambda p: [p.pipeline / "vae"],
    "vae_encoder": lambda p: [p.pipeline / "vae"],
    "user_encoder": lambda p: [p.perfusion_rm, *_if_there(p.adapter, p.preferences), p.feature_schema, p.phrases],
    "text_encoder": lambda p: [p.pipeline / "text_encoder"],
    "reward_text": lambda p: [p.reward, p.perfusion_rm, p.feature_schema],
    "reward_image": lambda p: [p.reward, p.perfusion_rm, p.feature_schema],
}


def _if_there(*paths: Path) -> list[Path]:
    return [path for path in paths if path.exists()]
