"""How a student is distilled from a family's generator: every number, and the recipes.

`tiny` is for two CPU cores and the tiny family. `large` is a start for Stable Diffusion's size on a GPU, where nobody
has tried it yet.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from training.common.recipes import Recipe

DistilStage = Literal["jumps", "ways"]
DISTIL_STAGES: tuple[DistilStage, ...] = get_args(DistilStage)


@dataclass(frozen=True)
class DistilRecipe(Recipe):
    """Trajectories of the teacher, and two stages on them; units in the comments."""

    jump_steps: int  # optimizer steps of the stage jumps: each step of the student by itself
    way_steps: int  # optimizer steps of the stage ways: all steps of the student, one after the other
    lr: float  # of AdamW in `jumps` after warm-up; a cosine brings it down to 5 %
    way_lr: float  # the same of `ways`
    trajectories: int = 4_096  # drawn by the teacher, on which both stages train
    held_out: int = 64  # more of them, for the log
    denoising_steps: int = 4  # of the student
    between: int = 2  # steps of the teacher, by DPM-Solver++, within one of the student's
    jumps_per_batch: int = 64  # in an optimizer step of `jumps`
    ways_per_batch: int = 8  # in an optimizer step of `ways`
    astray: float = 0.25  # share of jumps from levels between the student's own: where a reference picture begins
    unknown: float = 0.1  # share of trajectories for a merchant of whom nothing is known
    varied: float = 0.1  # share with another guidance scale; so many have a negative prompt, another adapter scale
    served_guidance: float = 1.25  # times the family's, by default: a student follows guidance less (docs/runs.md)
    accumulate: int = 1  # parts that a batch is computed in, one after the other
    warmup_steps: int = 30
    weight_decay: float = 1e-2
    max_grad_norm: float = 1.0
    ema: float = 0.99  # of the weights that are saved; 0 saves the last ones
    bf16: bool = False  # autocast; latents and losses stay in fp32
    checkpoint_gradients: bool = False  # less memory, more time
    seed: int = 0

    def steps_of(self, stage: DistilStage) -> int:
        """Optimizer steps."""
        return self.jump_steps if stage == "jumps" else self.way_steps

    def lr_of(self, stage: DistilStage) -> float:
        """The rate after warm-up."""
        return self.lr if stage == "jumps" else self.way_lr

    def batch_of(self, stage: DistilStage) -> int:
        """Trajectories in an optimizer step."""
        return self.jumps_per_batch if stage == "jumps" else self.ways_per_batch


def tiny() -> DistilRecipe:
    """On the tiny family. Of 1,408 trajectories `ways` learns by heart: held-out errors stand still (docs/runs.md)."""
    return DistilRecipe(jump_steps=400, way_steps=600, lr=3e-4, way_lr=2e-4)


def large() -> DistilRecipe:
    """For a GPU; not tried yet."""
    return DistilRecipe(
        jump_steps=4_000, way_steps=1_000, lr=1e-5, way_lr=5e-6, trajectories=20_000, between=5, jumps_per_batch=256,
        ways_per_batch=64, accumulate=32, warmup_steps=200, bf16=True, checkpoint_gradients=True,
    )  # fmt: skip


RECIPES = {"tiny": tiny, "large": large}
