"""Groups a second of PerFusionRM's training, against loops that encode each (prompt, image) pair by itself.

    python -m lab.benchmarks.reward_throughput            on the tiny family, random pictures

Three ways to take the same optimizer steps, in turns within one run, each with fresh plug-ins:

    ours        one pass over all images of the batch, prompt and user encoded once a group, prompts without padding
    pairs       one pass, but every image with its own copy of the prompt, padded to 77 tokens
    one by one  each (prompt, image) pair its own pass, as in a plain loop over a data set

All three in fp32 and eager mode; `ours` also with the frozen backbone in bfloat16. Writes
build/bench/reward_throughput.json.
"""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from lab.benchmarks.race import parse_arguments, race, random_groups, write
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


def main() -> None:
    arguments = parse_arguments(__doc__, "reward/", groups=32, out=Path("build/bench/reward_throughput.json"))
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


if __name__ == "__main__":
    main()
