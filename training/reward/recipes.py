"""How each reward model is trained: every number, and the recipes that work.

A recipe is a function that returns a frozen RewardRecipe. `paper` is Appendix B.4 and the default of
training.reward.train; `tiny` is for two CPU cores and the tiny family's pictures.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

from training.common.recipes import Recipe

if TYPE_CHECKING:
    from training.models.reward_model import RewardConfig, Variant

Model = Literal[
    "perfusion_rm", "shared", "vision_only", "text_only",
    "aesthetics", "clip_h", "imagereward", "hpsv1", "hpsv2", "pickscore",
]  # fmt: skip
MODELS: tuple[Model, ...] = get_args(Model)
VARIANTS: "dict[Model, Variant]" = {  # PerFusionRM and its ablations; the others are baselines
    "perfusion_rm": "full", "shared": "shared", "vision_only": "vision_only", "text_only": "text_only",
}  # fmt: skip


@dataclass(frozen=True)
class RewardRecipe(Recipe):
    """How a reward model is trained (B.4); units in the comments."""

    model: Model = "perfusion_rm"
    steps: int = 1_500  # optimizer steps
    groups_per_batch: int = 128
    accumulate: int = 1  # parts that a batch is computed in, one after the other
    lr: float = 1e-3  # of AdamW after warm-up
    warmup_steps: int = 500
    decay: bool = False  # whether a cosine brings the rate down to 5 % after the warm-up
    weight_decay: float = 1e-2
    feature_dropout: float = 0.05  # so that "unknown" is a trained value
    embed_dim: int = 8  # width of one feature's embedding
    n_cross_layers: int = 2
    adaptive_hidden: int = 32  # width inside an adaptive network
    unlocked_vision: int = 20  # HPSv2: the last layers of the vision tower that train
    unlocked_text: int = 11  # HPSv2: and of the text tower
    max_grad_norm: float = 1.0
    # PerFusionRM: the frozen backbone in bfloat16; baselines: autocast. Scores and losses in fp32. None: where the
    # device computes it; a processor that emulates it is eight times slower than in fp32.
    bf16: bool | None = False
    held_out: int = 512  # last groups of the data, never trained on
    seed: int = 0

    def config(self) -> "RewardConfig":
        """The configuration of PerFusionRM or one of its ablations."""
        from training.models.plugin import PluginShape  # torch takes seconds to load; a command's --help needs none
        from training.models.reward_model import RewardConfig

        return RewardConfig(
            VARIANTS[self.model], PluginShape(self.embed_dim, self.n_cross_layers, self.adaptive_hidden)
        )


def paper(model: Model = "perfusion_rm") -> RewardRecipe:
    """Appendix B.4 for plug-ins: AdamW, batch 128, lr 1e-3, 500 warm-up steps, weight decay 1e-2.

    Baselines that fine-tune a whole network have the rates their authors published.
    """
    rates: dict[Model, float] = {"pickscore": 3e-6, "hpsv1": 1.7e-5, "hpsv2": 3.3e-6, "imagereward": 1e-5}
    return RewardRecipe(model, lr=rates.get(model, 1e-3), weight_decay=0.35 if model == "hpsv2" else 1e-2)


def tiny(model: Model = "perfusion_rm") -> RewardRecipe:
    """On the tiny CLIP: a short warm-up, a falling rate, and plug-ins that are wide for the towers' width."""
    plugins = RewardRecipe(
        model, steps=1_000, lr=1.5e-3, warmup_steps=100, decay=True, feature_dropout=0.02, embed_dim=32,
        adaptive_hidden=128, held_out=1_000, bf16=None,
    )  # fmt: skip
    if model in VARIANTS:
        return plugins
    whole = replace(plugins, bf16=False, steps=300, groups_per_batch=64, lr=5e-4, warmup_steps=50)
    fine_tuning = replace(whole, unlocked_vision=2, unlocked_text=2)
    return replace(fine_tuning, lr=1e-3) if model == "aesthetics" else fine_tuning
