"""How the personalised adaptive network is trained: every number, and the recipes that work.

A recipe is a function that returns a frozen GeneratorRecipe. Two stages: the first teaches the
adapter to use the user at all, `sft` as in the paper (Eq. 1 on picked images) or `distil`, which
is ours and what the tiny family uses; `group` then optimises the group-level preference
(Eq. 13/18). From a zero start alone the group objective stalls at |P|·ln(1 + |N|).
"""

from dataclasses import dataclass
from typing import Literal

from training.noise import Levels
from training.objectives import Reduction

Objective = Literal["distil", "sft", "group", "set_plackett_luce"]


@dataclass(frozen=True)
class GeneratorRecipe:
    """One stage of training; units in the comments."""

    objective: Objective  # distil: towards the U-Net with wishes in its prompt; sft: Eq. 1 on picked images;
    # group: Eq. 13/18; set_plackett_luce: exact
    steps: int  # optimizer steps
    lr: float  # of AdamW after warm-up, not scaled by the batch
    user_lr_factor: float = 4.0  # times lr for the user encoder and the user map
    gate_lr_factor: float = 100.0  # times lr for the zero convolution between the map and the copy
    groups_per_batch: int = 16  # distinct groups in a step
    noise_levels: int = 1  # draws of (t, ε) for each group of a step
    kappa: float = 200.0  # κ, multiplies d directly: β/2 of the public Diffusion-DPO code
    reduction: Reduction = "sum"  # over a group's positives
    warmup_steps: int = 100
    weight_decay: float = 1e-2
    levels: Levels = "logit_normal"  # the law of the noise levels; the paper's is uniform
    prompt_dropout: float = 0.0  # the adapter acts on the conditional half only: no need to drop
    feature_dropout: float = 0.05  # so that "unknown" is a trained value
    embed_dim: int = 8  # width of one feature's embedding
    n_cross_layers: int = 2
    max_grad_norm: float = 1.0
    ema: float = 0.99  # of the weights that are saved; 0 saves the last ones
    bf16: bool = False  # autocast; errors and losses stay in fp32
    divergence: float = 1.5  # stop when m_θ of held-out winners exceeds this times m_ref
    held_out: int = 256  # last groups of the data, for the log only
    seed: int = 0


def distil() -> GeneratorRecipe:
    """Beyond the paper: with the user alone, predict what the U-Net predicts when the prompt names their wishes."""
    return GeneratorRecipe("distil", steps=900, lr=8e-4, groups_per_batch=64)


def sft() -> GeneratorRecipe:
    """Stage 1: Eq. 1 on picked images, with the user."""
    return GeneratorRecipe("sft", steps=1_600, lr=8e-4, groups_per_batch=64, prompt_dropout=0.3)


def group() -> GeneratorRecipe:
    """Stage 2: the group-level preference objective, from stage 1."""
    return GeneratorRecipe("group", steps=4_000, lr=7e-5, gate_lr_factor=4.0)


RECIPES = {"distil": distil, "sft": sft, "group": group}
