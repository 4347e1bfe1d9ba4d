"""How each generator is trained: every number, and the recipes that work.

A stage has a name, an objective, and a trained part: the U-Net, without the merchant, or the personalised adaptive
network on a frozen U-Net. `paper(stage)` has Appendix B.4's numbers and is the default of training.generator.train;
`tiny(stage)` is for two CPU cores and the tiny family.

The paper's PerFusion is `dpo` → `sft` → `group`. `dpo` aligns the backbone with the population average. `sft` trains
the adapter to use the profile (Eq. 1 on picked images); from a zero start without it, Eq. 13 stalls at |P|·ln(1 + |N|).
`group` trains the group-level preference. Taste that phrases can name is the wishes' part (training.wishes).

`reward` is ours: it trains the adapter by PerFusionRM's gradient (training.generator.reward_gradient), and
needs the family's trained reward model; `wished` of its prompts are read with the merchant's wishes, as they are
served, so that the adapter adds what words do not say. docs/runs.md has what leash and contrast are worth.
"""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from training.common.recipes import Levels, Recipe, Reduction

Objective = Literal["sft", "dpo", "group", "set_plackett_luce", "reward"]
Stage = Literal["unet_sft", "dpo", "unet_group", "sft", "group", "reward"]
STAGES: tuple[Stage, ...] = get_args(Stage)
GROUP_OBJECTIVES: tuple[Objective, ...] = ("group", "set_plackett_luce")


@dataclass(frozen=True)
class GeneratorRecipe(Recipe):
    """One stage of training; units in the comments."""

    objective: Objective  # sft: Eq. 1 on picked images;
    # dpo: Diffusion-DPO on pairs, β = 2κ; group: Eq. 13/18; set_plackett_luce: exact; reward: PerFusionRM's gradient
    steps: int  # optimizer steps
    lr: float  # of AdamW after warm-up, not scaled by the batch
    trains: Literal["adapter", "unet"] = "adapter"
    user_lr_factor: float = 4.0  # times lr for the user encoder and the user map
    gate_lr_factor: float = 100.0  # times lr for the zero convolution between the map and the copy
    groups_per_batch: int = 16  # groups in a step, each once an epoch
    accumulate: int = 1  # parts that a batch is computed in, one after the other
    noise_levels: int = 1  # draws of (t, ε) for each group of a step
    kappa: float = 200.0  # κ, multiplies d directly: β/2 of the public Diffusion-DPO code
    leash: float = 200.0  # λ of `reward`: what a change of the predicted noise costs
    contrast: float = 0.0  # ν of `reward`: how much another merchant's reward counts against it
    agreement: float = 1.0  # μ of `reward`: what lost agreement with the prompt costs
    guidance: float = 1.0  # g of `reward`: how far the predicted picture follows the prompt
    wished: float = 0.0  # share of the prompts of `reward` that are read with the merchant's wishes
    reduction: Reduction = "sum"  # over a group's positives
    warmup_steps: int = 100
    decay: bool = True  # whether a cosine brings the rate down to 5 % after the warm-up
    weight_decay: float = 1e-2
    levels: Levels = "logit_normal"  # the law of the noise levels; the paper's is uniform
    prompt_dropout: float = 0.0  # the adapter acts on the conditional half only: no need to drop
    feature_dropout: float = 0.05  # so that "unknown" is a trained value
    embed_dim: int = 8  # width of one feature's embedding
    n_cross_layers: int = 2
    max_grad_norm: float = 1.0
    ema: float = 0.99  # of the weights that are saved; 0 saves the last ones
    bf16: bool = False  # autocast; errors and losses stay in fp32
    checkpoint_gradients: bool = False  # less memory, more time
    divergence: float = 1.5  # stop when m_θ of held-out winners exceeds this times m_ref
    held_out: int = 256  # last groups of the data, for the log and `divergence`
    sheet_every: int = 500  # steps between pictures of samples; 0: none
    seed: int = 0

    @property
    def needs_reference(self) -> bool:
        """Whether the objective compares what was picked with what was passed over, by a reference."""
        return self.objective not in ("sft", "reward")


def paper(stage: Stage) -> GeneratorRecipe:
    """Appendix B.4: AdamW, 500 warm-up steps, weight decay 1e-2; batch, β and rate as Diffusion-DPO's for SD 1.5.

    B.4's "lr 1e-8" is scaled by the global batch of 2,048 in the public code, which gives 2e-5. On one device a
    batch is computed in parts of four groups.
    """
    published = GeneratorRecipe(
        "group", steps=2_000, lr=2e-5, user_lr_factor=1.0, gate_lr_factor=1.0, groups_per_batch=2_048, accumulate=512,
        kappa=2_500.0, warmup_steps=500, decay=False, levels="uniform", ema=0.0, bf16=True, checkpoint_gradients=True,
    )  # fmt: skip
    if stage == "reward":
        published = replace(published, groups_per_batch=64, accumulate=16, warmup_steps=30, levels="coarse")
    return _of_stage(published, stage)


def tiny(stage: Stage) -> GeneratorRecipe:
    """On the tiny family. `sft` needs a thousand steps before the profile has a clear effect (docs/runs.md)."""
    numbers: dict[Stage, GeneratorRecipe] = {
        "unet_sft": GeneratorRecipe("sft", steps=1_600, lr=1e-4, groups_per_batch=64),
        "dpo": GeneratorRecipe("dpo", steps=400, lr=2e-5, groups_per_batch=32),
        "unet_group": GeneratorRecipe("group", steps=2_400, lr=5e-5),
        "sft": GeneratorRecipe("sft", steps=2_400, lr=8e-4, groups_per_batch=64, prompt_dropout=0.3),
        "group": GeneratorRecipe("group", steps=2_400, lr=7e-5, gate_lr_factor=4.0),
        "reward": GeneratorRecipe(
            "reward",
            steps=850,
            lr=3e-4,
            user_lr_factor=10.0,
            gate_lr_factor=10.0,
            groups_per_batch=48,
            leash=100.0,
            warmup_steps=30,
            levels="coarse",
            ema=0.0,
        ),
    }
    return _of_stage(numbers[stage], stage)


def _of_stage(recipe: GeneratorRecipe, stage: Stage) -> GeneratorRecipe:
    """A stage's objective and trained part, without its numbers."""
    objectives: dict[Stage, Objective] = {"unet_sft": "sft", "unet_group": "group"}
    objective: Objective = objectives.get(stage, stage)  # type: ignore[arg-type]  # the other names are objectives
    if stage == "dpo" or stage.startswith("unet_"):
        return replace(recipe, objective=objective, trains="unet", prompt_dropout=0.2)
    return replace(recipe, objective=objective, trains="adapter")
