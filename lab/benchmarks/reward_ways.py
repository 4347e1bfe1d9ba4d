"""The ways to take a step of PerFusionRM's training that are timed against each other.

`python -m lab.benchmarks.reward_throughput` is the command, and says what each does.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor

from lab.benchmarks.options import write
from lab.benchmarks.turns import race, random_groups
from training.common.objectives import reward_cross_entropy
from training.data.groups import GroupTensors
from training.models.family import FamilyPaths, hush_libraries
from training.models.reward_model import PerFusionRM, RewardConfig
from training.reward.recipes import tiny

Scores = Callable[[PerFusionRM, Tensor, Tensor, Tensor], Tensor]


def ours(model: PerFusionRM, pixels: Tensor, input_ids: Tensor, features: Tensor) -> Tensor:
    """(B, K, 3, H, W), (B, 77), (B, F) → (B, K)."""
    scores: Tensor = model(pixels, input_ids, features)
    return scores


def pairs(model: PerFusionRM, pixels: Tensor, input_ids: Tensor, features: Tensor) -> Tensor:
    """Every image with its own copy of the prompt and of the user."""
    k = pixels.shape[1]
    users = features.repeat_interleave(k, 0)
    images = model.embed_image(pixels.flatten(0, 1), users)
    texts = model.embed_text(input_ids.repeat_interleave(k, 0), users)
    return model.clip.logit_scale.exp() * (images * texts).sum(-1).unflatten(0, (-1, k))


def one_by_one(model: PerFusionRM, pixels: Tensor, input_ids: Tensor, features: Tensor) -> Tensor:
    """A pass for each pair."""
    rows = [
        torch.cat([pairs(model, image[None, None], ids[None], user[None])[0] for image in group])
        for group, ids, user in zip(pixels, input_ids, features, strict=True)
    ]
    return torch.stack(rows)


def step_of(family: FamilyPaths, groups: GroupTensors, scores: Scores, *, bf16: bool) -> Callable[[], None]:
    """An optimizer step over these groups, plug-ins as wide as the tiny recipe's."""
    clip = family.clip()
    torch.manual_seed(0)
    if bf16:
        clip.bfloat16().set_attn_implementation("eager")  # as in training; in bfloat16 the fused one is slow on CPUs
    model = PerFusionRM(clip, groups.schema, RewardConfig(plugin=tiny().config().plugin))
    preprocess = family.preprocess(clip)
    optimizer = torch.optim.AdamW(model.plugins.parameters(), 1e-3)
    selected, features = torch.tensor(groups.selected), torch.tensor(groups.features)
    images, ids = torch.tensor(groups.images), torch.tensor(groups.input_ids[:, 0])

    def step() -> None:
        pixels = preprocess(images.flatten(0, 1)).unflatten(0, images.shape[:2])
        reward_cross_entropy(scores(model, pixels, ids, features), selected).mean().backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def run(arguments: argparse.Namespace) -> None:
    """Times them and writes the report."""
    hush_libraries()
    family = FamilyPaths.under(arguments.weights)
    size_px = family.clip().config.vision_config.image_size
    groups = random_groups(family.schema(), family.reward_tokenizer(), size_px, arguments.groups, 5)
    ways = {
        "ours": step_of(family, groups, ours, bf16=False),
        "ours_bf16": step_of(family, groups, ours, bf16=True),
        "pairs": step_of(family, groups, pairs, bf16=False),
        "one_by_one": step_of(family, groups, one_by_one, bf16=False),
    }
    write(race(ways, arguments.groups, arguments.rounds), arguments.out)
