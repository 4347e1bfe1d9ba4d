"""Trains the tiny CLIP that stands in PickScore's place: pictures and prompts, then choices.

First CLIP's contrastive loss on drawings and their prompts; then PickScore's idea, a softmax over
the candidates of a round towards the picked one, by merchants it is told nothing about.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from training.loop import fit, warmup_cosine
from training.market.attributes import from_indices
from training.market.prompts import ask_for, write
from training.pretraining.drawings import drawings
from training.pretraining.train_tokenizer import encode as tokenize

IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's own normalisation
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ClipRecipe:
    """How the tiny CLIP is trained."""

    seed: int = 606
    steps: int = 1_500
    batch: int = 96
    lr: float = 1e-3
    weight_decay: float = 1e-2


def build(tokenizer: CLIPTokenizer) -> CLIPModel:
    """An untrained CLIP: ViT of 4 layers on 8×8 patches, text transformer of 3 layers."""
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 3, "num_attention_heads": 4, "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    vision = {
        "hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 4,
        "num_attention_heads": 4, "image_size": 64, "patch_size": 8,
    }  # fmt: skip
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=64))


def train(
    recipe: ClipRecipe,
    tokenizer: CLIPTokenizer,
    run_dir: Path,
    data_dir: Path,
    start: CLIPModel | None = None,
) -> CLIPModel:
    """Trains (or resumes) with the contrastive loss, from `start` or from scratch."""
    pool = drawings(data_dir, 40_000, 101)
    torch.manual_seed(recipe.seed)
    clip = (start or build(tokenizer)).train()
    optimizer = torch.optim.AdamW(clip.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    schedule = warmup_cosine(optimizer, 200, recipe.steps)

    def step(n: int) -> dict[str, float]:
        rng = np.random.default_rng((recipe.seed, 1, n))
        rows = np.sort(rng.integers(len(pool), size=recipe.batch))
        garments = [from_indices(pool.indices[row]) for row in rows]
        prompts = [write(ask_for(g, rng, fewest=3, most=9), rng) for g in garments]
        logits = similarity(clip, pool.images[rows], tokenize(tokenizer, prompts))
        loss = contrastive(logits)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(clip.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        clip.logit_scale.data.clamp_(max=np.log(100.0))
        right = (logits.argmax(1) == torch.arange(len(logits))).float().mean()
        return {"loss": loss.item(), "accuracy": right.item()}

    fit(run_dir, recipe.steps, step, {"clip": clip, "optimizer": optimizer, "schedule": schedule})
    return clip.eval()


def similarity(clip: CLIPModel, images: np.ndarray, input_ids: np.ndarray) -> Tensor:
    """exp(logit_scale)·cos for all pairs, (images, prompts)."""
    seen = clip.get_image_features(pixel_values=normalise(images))
    said = clip.get_text_features(input_ids=torch.as_tensor(input_ids))
    seen, said = (getattr(x, "pooler_output", x) for x in (seen, said))
    cosines = F.normalize(seen, dim=-1) @ F.normalize(said, dim=-1).T
    return clip.logit_scale.exp() * cosines


def normalise(images: np.ndarray) -> Tensor:
    """uint8 (N, H, W, 3) to CLIP's pixel values (N, 3, H, W)."""
    pixels = torch.as_tensor(images).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGE_MEAN, IMAGE_STD))
    return (pixels - mean) / std


def contrastive(logits: Tensor) -> Tensor:
    """CLIP's loss: cross-entropy of each picture's prompt and of each prompt's picture."""
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
