"""How SPO is trained: every number, and the recipes that work.

`published` has the numbers for SD 1.5 and is the default of training.generator.train_spo; `tiny` is for two CPU cores
and the tiny family.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from training.common.recipes import Recipe


@dataclass(frozen=True)
class SpoRecipe(Recipe):
    """How the U-Net is trained; the defaults are the published ones for SD 1.5, except for the learning rate.

    The published 6e-5 is LoRA's; here the whole U-Net trains.
    """

    rounds: int = 1_000  # of drawing prompts and learning from their pairs
    prompts: int = 40  # drawn in a round
    candidates: int = 4  # k, of every step's next latents
    denoising_steps: int = 20
    first_step: int = 4  # from here on candidates are compared: t ≤ 751
    guidance: float = 5.0
    eta: float = 1.0
    threshold: float = 0.3  # least difference of the pair's softmax
    pairs_per_batch: int = 40
    pairs_at_once: int = 8  # in memory: a batch is computed in parts
    beta: float = 10.0
    clip: float = 0.1
    lr: float = 1e-6
    weight_decay: float = 1e-4
    max_grad_norm: float = 1.0
    seed: int = 0

    free: ClassVar[frozenset[str]] = frozenset({"rounds", "pairs_at_once"})  # the rate does not fall


@dataclass(frozen=True)
class StepAwareRecipe(Recipe):
    """How the step-aware preference model is trained; a cosine brings the rate down to 5 %."""

    steps: int = 4_000
    groups_per_batch: int = 64
    lr: float = 1e-5
    warmup_steps: int = 100
    weight_decay: float = 1e-2
    max_grad_norm: float = 1.0
    seed: int = 0

    decay: ClassVar[bool] = True


@dataclass(frozen=True)
class SpoRecipes:
    """Both stages."""

    step_aware: StepAwareRecipe = field(default_factory=StepAwareRecipe)
    spo: SpoRecipe = field(default_factory=SpoRecipe)


def tiny(seed: int = 0) -> SpoRecipes:
    """On the tiny family, two CPU cores."""
    spo = SpoRecipe(rounds=60, prompts=16, denoising_steps=10, first_step=2, guidance=4.0, lr=3e-5, seed=seed)
    return SpoRecipes(StepAwareRecipe(steps=400, groups_per_batch=32, lr=3e-4, seed=seed), spo)


def published(seed: int = 0) -> SpoRecipes:
    """For SD 1.5."""
    return SpoRecipes(StepAwareRecipe(seed=seed), SpoRecipe(seed=seed))


RECIPES = {"published": published, "tiny": tiny}
