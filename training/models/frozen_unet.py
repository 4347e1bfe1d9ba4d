"""A diffusers U-Net of Stable Diffusion 1.5's topology, taken apart at its middle.

The adapter's residuals enter the skips and the middle output, so everything before the decoder
is the same with and without it: `encode` runs once, `decode` once per policy (reference and
adapted). `decode(encode(·))` is bit-identical to the U-Net's own forward. Knows nothing about merchants.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

from training.common.errors import TopologyError
from training.common.storage import load_pretrained

DOWN_BLOCKS = ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",)
UP_BLOCKS = ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3
N_SKIPS = 12
UNUSED_OPTIONS = (  # unset in SD 1.5; a ControlNet copy would not reproduce them
    "addition_embed_type",
    "class_embed_type",
    "encoder_hid_dim_type",
    "num_class_embeds",
    "time_cond_proj_dim",
    "time_embedding_act_fn",
    "timestep_post_act",
)


class SharedText(AttnProcessor2_0):
    """Cross-attention to one text for several neighbours: its keys and values are computed once for all of them.

    The queries (B, N, C) of B/G neighbours attend as one sequence (G, B/G·N, C), which is the same sum. With one text
    for each (G = B), and in self-attention, it equals diffusers' own.
    """

    def __call__(
        self, attn: Attention, hidden_states: Tensor, *context: Tensor | None, **more: Tensor | None
    ) -> Tensor:
        attended: Tensor = super().__call__(attn, hidden_states, *context, **more)
        return attended.view_as(hidden_states)


def share_text(model: UNet2DConditionModel | ControlNetModel) -> None:
    """Lets a model take one text for several neighbours."""
    model.set_attn_processor(SharedText())


@dataclass(frozen=True)
class Residuals:
    """The adapter's additions to the U-Net: 12 skips and the middle output."""

    skips: tuple[Tensor, ...]  # 12 × (B, C_l, H_l, W_l)
    middle: Tensor  # (B, C, H, W)


@dataclass(frozen=True)
class Encoded:
    """The U-Net's state between middle block and decoder."""

    time: Tensor  # (B, 4·C_0) time embedding
    text: Tensor  # (G, 77, D)
    skips: tuple[Tensor, ...]  # 12 × (B, C_l, H_l, W_l)
    middle: Tensor  # (B, C, H, W)


def check_topology(unet: UNet2DConditionModel) -> None:
    """Refuse a U-Net whose encoder is not SD 1.5's 12 blocks and a middle."""
    config = unet.config
    expected = {
        "down_block_types": DOWN_BLOCKS,
        "up_block_types": UP_BLOCKS,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "layers_per_block": 2,
        "conv_in_kernel": 3,
        "center_input_sample": False,
        "time_embedding_type": "positional",
    } | dict.fromkeys(UNUSED_OPTIONS)
    for key, wanted in expected.items():
        found = config.get(key)
        if _plain(found) != _plain(wanted):
            raise TopologyError(f"the U-Net's {key} is {found!r}; SD 1.5's topology has {wanted!r}")
    if config.in_channels != config.out_channels:
        raise TopologyError("the U-Net's in_channels and out_channels differ: not a plain denoiser")


def _plain(value: object) -> object:
    if isinstance(value, list | tuple):
        return value[0] if len(set(value)) == 1 and isinstance(value[0], int) else tuple(value)
    return value


def load_unet(directory: Path) -> UNet2DConditionModel:
    """A frozen U-Net in float32 from a diffusers `unet/` directory."""
    if not (directory / "config.json").is_file():
        raise TopologyError(f"{directory} is not a diffusers U-Net directory: no config.json")
    unet = load_pretrained(UNet2DConditionModel, directory, torch_dtype=torch.float32, low_cpu_mem_usage=False)
    check_topology(unet)
    share_text(unet)
    return unet


def encode(unet: UNet2DConditionModel, z_t: Tensor, t: Tensor, text: Tensor) -> Encoded:
    """Time embedding, the 12 encoder blocks and the middle block, of latents (B, C, S, S) at levels (B,).

    `text` (G, 77, D) has a row for every B/G neighbours; G < B needs an earlier call of `share_text`.
    """
    time = unet.time_embedding(unet.get_time_embed(sample=z_t, timestep=t))  # (B, 4·C_0)
    h = unet.conv_in(z_t)
    skips: tuple[Tensor, ...] = (h,)
    for block in unet.down_blocks:
        context = {"encoder_hidden_states": text} if _attends(block) else {}
        h, outputs = block(hidden_states=h, temb=time, **context)
        skips += outputs
    return Encoded(time, text, skips, unet.mid_block(h, time, encoder_hidden_states=text))


def decode(unet: UNet2DConditionModel, encoded: Encoded, residuals: Residuals | None = None) -> Tensor:
    """The decoder on the encoded state, with the adapter's residuals or (reference) without."""
    skips, h = encoded.skips, encoded.middle
    if residuals is not None:
        skips = tuple(s + r for s, r in zip(skips, residuals.skips, strict=True))
        h = h + residuals.middle
    for block in unet.up_blocks:
        n = len(block.resnets)
        skips, used = skips[:-n], skips[-n:]
        context = {"encoder_hidden_states": encoded.text} if _attends(block) else {}
        size = skips[-1].shape[2:] if skips else None  # for odd sides, upsampling needs the exact size
        h = block(
            hidden_states=h,
            temb=encoded.time,
            res_hidden_states_tuple=used,
            upsample_size=size,
            **context,
        )
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(h)))  # (B, C, H, W)


def _attends(block: torch.nn.Module) -> bool:
    return bool(getattr(block, "has_cross_attention", False))
