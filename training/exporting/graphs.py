"""The seven models of the tensor contract as torch modules with exactly its inputs and outputs.

Batch dimension first. Everything a client would have to know otherwise (VAE scaling, pixel
ranges, resizing, normalisation) is inside. Knows nothing about ONNX.
"""

from collections.abc import Callable
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import CLIPTextModel

from training.models.denoiser import PersonalisedDenoiser
from training.models.family import FamilyPaths
from training.models.feature_crossing import UserEncoder
from training.models.preprocess import Preprocess
from training.models.reward_model import PerFusionRM


class UserEncoders(nn.Module):
    """Features → the three user representations u, one per place that reads one."""

    def __init__(self, reward_model: PerFusionRM, generator: UserEncoder) -> None:
        super().__init__()
        self.reward_model, self.generator = reward_model, generator

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        text = self.reward_model.represent("text", features)  # (B, d)
        image = self.reward_model.represent("vision", features)  # (B, d)
        return text, image, self.generator(features)


class TextStates(nn.Module):
    """Token ids → what cross-attention reads."""

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
        pixels = image.permute(0, 3, 1, 2).float() / 127.5 - 1
        mean: Tensor = self.vae.encode(pixels, return_dict=False)[0].mean
        return mean * self.scale


class RewardText(nn.Module):
    """PerFusionRM's text tower."""

    def __init__(self, model: PerFusionRM) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, user: Tensor) -> Tensor:  # (B, 77), (B, d) -> (B, e)
        return self.model.embed_text(input_ids, user)


class RewardImage(nn.Module):
    """PerFusionRM's vision tower behind its preprocessing."""

    def __init__(self, model: PerFusionRM, preprocess: Preprocess) -> None:
        super().__init__()
        self.model, self.preprocess = model, preprocess

    def forward(self, image: Tensor, user: Tensor) -> Tensor:  # (B, H, W, 3), (B, d) -> (B, e)
        return self.model.embed_image(self.preprocess(image), user)


def build_reward_image(paths: FamilyPaths) -> nn.Module:
    model = paths.reward_model()
    return RewardImage(model, paths.preprocess(model.clip))


def build_denoiser(paths: FamilyPaths) -> nn.Module:
    unet = paths.backbone_unet()
    return PersonalisedDenoiser(unet, paths.perfusion(unet))


def build_user_encoder(paths: FamilyPaths) -> nn.Module:
    return UserEncoders(paths.reward_model(), paths.perfusion(paths.backbone_unet()).user_encoder)


BUILDERS: dict[str, Callable[[FamilyPaths], nn.Module]] = {
    "denoiser": build_denoiser,  # first: it takes longest
    "vae_decoder": lambda paths: PictureDecoder(paths.vae()),
    "vae_encoder": lambda paths: PictureEncoder(paths.vae()),
    "user_encoder": build_user_encoder,
    "text_encoder": lambda paths: TextStates(paths.text_encoder()),
    "reward_text": lambda paths: RewardText(paths.reward_model()),
    "reward_image": build_reward_image,
}
SOURCES: dict[str, Callable[[FamilyPaths], list[Any]]] = {  # what a model's numbers depend on
    "denoiser": lambda p: [p.backbone_files, p.adapter, p.feature_schema],
    "vae_decoder": lambda p: [p.pipeline / "vae"],
    "vae_encoder": lambda p: [p.pipeline / "vae"],
    "user_encoder": lambda p: [p.perfusion_rm, p.adapter, p.feature_schema],
    "text_encoder": lambda p: [p.pipeline / "text_encoder"],
    "reward_text": lambda p: [p.reward, p.perfusion_rm, p.feature_schema],
    "reward_image": lambda p: [p.reward, p.perfusion_rm, p.feature_schema],
}
