"""CLIP-H, HPSv1 and HPSv2: open_clip models, scored by exp(logit_scale)·cos.

CLIP-H (ViT-H-14, LAION-2B) is used as pre-trained. HPSv1 (Wu et al., 2023) fine-tunes CLIP by the softmax over a
group with one pick; HPSv2 trains the last layers of each tower only, on pairs with soft labels. A transformers
`CLIPModel` can be converted, so that all baselines start from one pre-training.
Knows open_clip's names and shapes; no losses, no merchants.
"""

import re
from pathlib import Path

import open_clip
import torch
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import CLIPModel

from training.common.errors import TopologyError
from training.reward.baselines.checkpoint import fill, read_checkpoint, renamed


class OpenClipScore(nn.Module):
    """Scores: pixels (B, K, 3, H, W), input_ids (B, 77) → exp(logit_scale)·cos, (B, K)."""

    def __init__(self, clip: CLIP) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, pixels: Tensor, input_ids: Tensor, features: Tensor | None = None) -> Tensor:
        images = normalize(self.clip.encode_image(pixels.flatten(0, 1)).float(), dim=-1).unflatten(0, pixels.shape[:2])
        texts = normalize(self.clip.encode_text(input_ids).float(), dim=-1)  # (B, e)
        return self.clip.logit_scale.exp() * (images * texts.unsqueeze(1)).sum(-1)  # (B, K)

    @classmethod
    def from_published(cls, path: Path, architecture: str = "ViT-H-14") -> "OpenClipScore":
        """CLIP-H `open_clip_pytorch_model.bin`, HPSv1 `hpc.pt` (ViT-L-14-quickgelu), HPSv2 `HPS_v2.1_compressed.pt`.

        Raises:
            WeightsError: the file is for another architecture; names the first tensors that differ.
            TopologyError: open_clip does not know the architecture.
        """
        if architecture not in open_clip.list_models():
            raise TopologyError(f"open_clip knows no {architecture!r}")
        clip = open_clip.create_model(architecture, pretrained=None)
        fill(
            clip, read_checkpoint(path), path, ignore=("input_resolution", "context_length", "vocab_size", "attn_mask")
        )
        return cls(clip)


def unlock(clip: CLIP, vision_layers: int, text_layers: int) -> None:
    """HPSv2: all frozen but the last layers of each tower, their final norms and projections."""
    clip.requires_grad_(False)
    vision, text = clip.visual, clip
    for tower, layers in ((vision, vision_layers), (text, text_layers)):
        for block in tower.transformer.resblocks[max(0, len(tower.transformer.resblocks) - layers) :]:
            block.requires_grad_(True)
    vision.ln_post.requires_grad_(True)
    vision.proj.requires_grad_(True)
    text.ln_final.requires_grad_(True)
    text.text_projection.requires_grad_(True)


def from_transformers(model: CLIPModel) -> CLIP:
    """The same function as an open_clip model."""
    config, vision, text = model.config, model.config.vision_config, model.config.text_config
    clip = CLIP(
        config.projection_dim,
        CLIPVisionCfg(
            layers=vision.num_hidden_layers, width=vision.hidden_size, patch_size=vision.patch_size,
            head_width=vision.hidden_size // vision.num_attention_heads, image_size=vision.image_size,
            mlp_ratio=vision.intermediate_size / vision.hidden_size, norm_kwargs={"eps": vision.layer_norm_eps},
        ),
        CLIPTextCfg(
            vocab_size=text.vocab_size, width=text.hidden_size, heads=text.num_attention_heads,
            layers=text.num_hidden_layers, mlp_ratio=text.intermediate_size / text.hidden_size,
            context_length=text.max_position_embeddings, pool_type="eos", eos_id=text.eos_token_id,
            norm_kwargs={"eps": text.layer_norm_eps},
        ),
        quick_gelu=vision.hidden_act == "quick_gelu",
    )  # fmt: skip
    clip.load_state_dict(_renamed(model.state_dict()))
    return clip


_RENAMES = (
    (r"vision_model\.embeddings\.class_embedding", "visual.class_embedding"),
    (r"vision_model\.embeddings\.position_embedding\.weight", "visual.positional_embedding"),
    (r"vision_model\.embeddings\.patch_embedding", "visual.conv1"),
    (r"vision_model\.pre_layrnorm", "visual.ln_pre"),
    (r"vision_model\.post_layernorm", "visual.ln_post"),
    (r"vision_model\.encoder\.layers", "visual.transformer.resblocks"),
    (r"text_model\.embeddings\.token_embedding", "token_embedding"),
    (r"text_model\.embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"text_model\.final_layer_norm", "ln_final"),
    (r"text_model\.encoder\.layers", "transformer.resblocks"),
    (r"layer_norm(\d)", r"ln_\1"),
    (r"mlp\.fc1", "mlp.c_fc"),
    (r"mlp\.fc2", "mlp.c_proj"),
    (r"self_attn\.out_proj", "attn.out_proj"),
)


def _renamed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """transformers' names to open_clip's; query, key and value become one matrix, projections are transposed."""
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.endswith("position_ids") or re.search(r"\.[kv]_proj\.", name):
            continue
        if name in ("visual_projection.weight", "text_projection.weight"):
            found["visual.proj" if name.startswith("visual") else "text_projection"] = value.T
            continue
        if ".q_proj." in name:
            value = torch.cat([state[name.replace("q_proj", part)] for part in ("q_proj", "k_proj", "v_proj")])
            name = re.sub(r"self_attn\.q_proj\.", "attn.in_proj_", name)
        found[renamed(name, _RENAMES)] = value
    return found
