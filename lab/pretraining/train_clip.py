"""Pre-trains the tiny CLIP: the contrastive loss on drawings and captions, and a tag head beside it.

Knows drawings and the phrases that describe them; nothing about merchants or picks.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from lab.market.attributes import ATTRIBUTES, from_indices
from lab.market.prompts import ask_for, write
from lab.recogniser.drawings import drawings
from lab.recogniser.recogniser import to_pixels
from lab.recogniser.train import degrade
from training.common.loop import fit, warmup_cosine
from training.models.tokens import encode as tokenize
from training.models.tokens import without_padding
from training.wishes.tagging import tag_vectors

COUNTS = [len(attribute.values) for attribute in ATTRIBUTES]
IMAGE_MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's own normalisation
IMAGE_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class ClipRecipe:
    """How the tiny CLIP is trained."""

    seed: int = 606
    pool: int = 40_000  # drawings to learn from
    steps: int = 4_000
    batch: int = 96
    lr: float = 2e-3
    weight_decay: float = 1e-2
    tag_weight: float = 3.0  # of the tag head's loss beside the contrastive one


def build(tokenizer: CLIPTokenizer) -> CLIPModel:
    """An untrained CLIP: ViT of 4 layers on 16×16 patches, text transformer of 3 layers."""
    text = {
        "vocab_size": len(tokenizer), "hidden_size": 96, "intermediate_size": 192,
        "num_hidden_layers": 3, "num_attention_heads": 4, "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id,
    }  # fmt: skip
    vision = {
        "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4,
        "num_attention_heads": 4, "image_size": 64, "patch_size": 16,
    }  # fmt: skip
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=96))


class TagHead(nn.Linear):
    """Predicts each attribute value linearly from a unit-length embedding: a caption names few, a picture has all.

    The squared error makes every value a direction, which a score linear in the embedding can use; a cross-entropy
    is low as soon as the classes are separable. Used only during the image tower's pre-training, then discarded.
    """

    def __init__(self, width: int, indices: np.ndarray) -> None:
        """For a pool of pictures that show `indices`, int64 (N, len(KINDS))."""
        super().__init__(width, sum(COUNTS))
        variance = tag_vectors(indices, COUNTS).var(0).split(COUNTS)
        weights = [1 / (kind.sum() * len(ATTRIBUTES)) for kind in variance]
        self.register_buffer("weights", torch.stack(weights).repeat_interleave(torch.tensor(COUNTS)))

    def unexplained(self, embeddings: Tensor, indices: np.ndarray) -> Tensor:
        """1 − R² of the one-hot values, the mean over the kinds; (B, e), int64 (B, len(KINDS))."""
        read = self(F.normalize(embeddings, dim=-1) * self.in_features**0.5)
        return ((read - tag_vectors(indices, COUNTS)).square() * self.weights).sum(-1).mean()


def train(recipe: ClipRecipe, tokenizer: CLIPTokenizer, run_dir: Path, data_dir: Path) -> CLIPModel:
    """Trains (or resumes) from scratch; half of the pictures are blurred and noisy, as decoded ones are."""
    pool = drawings(data_dir, recipe.pool, recipe.seed)
    torch.manual_seed(recipe.seed)
    clip = build(tokenizer).train()
    clip.set_attn_implementation("eager")  # the fastest for 17 tokens on a CPU
    model = nn.ModuleDict({"clip": clip, "tags": TagHead(clip.config.projection_dim, pool.indices)})
    optimizer = torch.optim.AdamW(model.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    schedule = warmup_cosine(optimizer, 200, recipe.steps)

    def step(n: int) -> dict[str, float]:
        rng = np.random.default_rng((recipe.seed, 1, n))
        rows = np.sort(rng.integers(len(pool), size=recipe.batch))
        pixels = normalise(degrade(to_pixels(pool.images[rows]), rng))
        seen = image_embeddings(clip, pixels)
        logits = similarity(clip, seen, tokenize(tokenizer, captions(pool.indices[rows], rng)))
        matching, tags = contrastive(logits), model["tags"].unexplained(seen, pool.indices[rows])
        (matching + recipe.tag_weight * tags).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        clip.logit_scale.data.clamp_(max=np.log(100.0))
        right = (logits.argmax(1) == torch.arange(len(logits))).float().mean()
        return {"loss": matching.item(), "tags": tags.item(), "accuracy": right.item()}

    fit(run_dir, recipe.steps, step, {"model": model, "optimizer": optimizer, "schedule": schedule})
    return clip.eval()


def captions(indices: np.ndarray, rng: np.random.Generator) -> list[str]:
    """A caption of each picture: three to nine of its phrases."""
    return [write(ask_for(from_indices(row), rng, fewest=3, most=9), rng) for row in indices]


def image_embeddings(clip: CLIPModel, pixels: Tensor) -> Tensor:
    """Before they are normalised, (B, e)."""
    embeddings: Tensor = clip.visual_projection(clip.vision_model(pixel_values=pixels).pooler_output)
    return embeddings


def similarity(clip: CLIPModel, seen: Tensor, input_ids: np.ndarray) -> Tensor:
    """exp(logit_scale)·cos of image embeddings (A, e) with prompts (B, 77), (A, B)."""
    ids = without_padding(torch.as_tensor(input_ids), clip.config.text_config.eos_token_id)
    said = clip.text_projection(clip.text_model(input_ids=ids).pooler_output)
    return clip.logit_scale.exp() * (F.normalize(seen, dim=-1) @ F.normalize(said, dim=-1).T)


def normalise(pixels: Tensor) -> Tensor:
    """[−1, 1] (N, 3, H, W) to CLIP's pixel values."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGE_MEAN, IMAGE_STD))
    return ((pixels + 1) / 2 - mean) / std


def contrastive(logits: Tensor) -> Tensor:
    """CLIP's loss: cross-entropy of each picture's prompt and of each prompt's picture."""
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
