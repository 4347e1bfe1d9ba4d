"""Pre-trains the tiny BLIP that ImageReward starts from: which caption belongs to a picture, and a tag head beside.

Knows drawings and the phrases that describe them; nothing about merchants or picks.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import BlipTextConfig, BlipVisionConfig, CLIPTokenizer

from lab.pretraining.train_clip import TagHead, captions, normalise
from lab.recogniser.drawings import drawings
from lab.recogniser.recogniser import to_pixels
from lab.recogniser.train import degrade
from training.common.loop import fit, warmup_cosine
from training.models.tokens import encode as tokenize
from training.reward.baselines.image_reward import BlipShape, ImageReward


@dataclass(frozen=True)
class BlipRecipe:
    """How the tiny BLIP is trained."""

    seed: int = 707
    pool: int = 40_000  # drawings to learn from
    steps: int = 1_500
    batch: int = 64
    lr: float = 1e-3
    weight_decay: float = 1e-2


def build(tokenizer: CLIPTokenizer) -> ImageReward:
    """An untrained one as large as the tiny CLIP."""
    vision = BlipVisionConfig(
        hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4, image_size=64, patch_size=16
    )
    text = BlipTextConfig(
        vocab_size=len(tokenizer), hidden_size=96, encoder_hidden_size=128, intermediate_size=192, num_hidden_layers=3,
        num_attention_heads=4, max_position_embeddings=77, bos_token_id=tokenizer.bos_token_id,
        sep_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return ImageReward(BlipShape(vision, text), tokenizer.eos_token_id)


def train(recipe: BlipRecipe, tokenizer: CLIPTokenizer, run_dir: Path, data_dir: Path) -> ImageReward:
    """Trains (or resumes) from scratch: its own caption against another picture's (BLIP's matching loss)."""
    pool = drawings(data_dir, recipe.pool, recipe.seed)
    torch.manual_seed(recipe.seed)
    reward = build(tokenizer).train()
    heads = {"matches": nn.Linear(96, 1), "tags": TagHead(128, pool.indices)}
    model = nn.ModuleDict({"reward": reward, **heads})
    optimizer = torch.optim.AdamW(model.parameters(), recipe.lr, weight_decay=recipe.weight_decay)
    schedule = warmup_cosine(optimizer, 200, recipe.steps)

    def step(n: int) -> dict[str, float]:
        rng = np.random.default_rng((recipe.seed, 1, n))
        rows = np.sort(rng.integers(len(pool), size=recipe.batch))
        pixels = normalise(degrade(to_pixels(pool.images[rows]), rng))
        ids = torch.as_tensor(tokenize(tokenizer, captions(pool.indices[rows], rng)))
        seen = reward.see(pixels)
        tags = heads["tags"].unexplained(seen[:, 0], pool.indices[rows])
        read = reward.attend(seen.repeat(2, 1, 1), torch.cat([ids, ids.roll(1, 0)]))  # its own caption, then another's
        logits = heads["matches"](read).squeeze(-1)
        target = torch.tensor([1.0, 0.0]).repeat_interleave(len(rows))
        matching = F.binary_cross_entropy_with_logits(logits, target)
        (matching + 3 * tags).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        right = ((logits > 0) == (target > 0)).float().mean()
        return {"loss": matching.item(), "tags": tags.item(), "accuracy": right.item()}

    fit(run_dir, recipe.steps, step, {"model": model, "optimizer": optimizer, "schedule": schedule})
    return reward.eval()
