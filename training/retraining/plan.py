"""What a retraining is asked for. Knows numbers, names and places; loads no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from training.common.errors import ModelError
from training.generator.distil_recipes import DistilRecipe
from training.generator.distil_recipes import tiny as tiny_student
from training.generator.recipes import GeneratorRecipe, Stage
from training.reward.recipes import RewardRecipe

Flood = Literal["cap", "refuse"]
PARTS = ("wishes", "reward", "adapter", "student")  # in the order in which they train
STAGES: tuple[Stage, ...] = ("reward", "group")  # of the adapter


@dataclass(frozen=True)
class Rules:
    """Which groups may train.

    Raises:
        ModelError: a number is out of its range.
    """

    original_share: float = 0.3  # least share of original data in all weight
    hold_out: float = 0.1  # newest groups that are left to the gate: a share of all, or a number from 1 on
    merchant_share: float = 0.05  # most of each thousand groups, in their order, that one merchant counts with
    merchant_groups: int = 50  # which is never less than this
    flood: Flood = "cap"  # leave the surplus out, or refuse the retraining

    def __post_init__(self) -> None:
        if not 0 < self.original_share < 1:
            raise ModelError(f"the share of original data is {self.original_share:g}, not between 0 and 1")
        if not (0 <= self.hold_out < 1 or (self.hold_out >= 1 and self.hold_out % 1 == 0)):
            raise ModelError(f"hold-out is {self.hold_out:g}, neither a share below 1 nor a number of groups")
        if not 0 < self.merchant_share <= 1:
            raise ModelError(f"one merchant's share is {self.merchant_share:g}, not above 0 and up to 1")
        if self.merchant_groups < 1:
            raise ModelError(f"one merchant's groups are {self.merchant_groups}, at least 1 is needed")


@dataclass(frozen=True)
class Plan:
    """Tables, the base family, and what of it is trained.

    Raises:
        ModelError: the adapter is to be trained, and no repository says which releases draw as the base family does;
            orders are to count, and no table has them.
    """

    groups: Path  # table of collected groups, with or without a version
    original: Path  # table of the data that the base family was trained on
    weights: Path  # the base family's folder
    out: Path
    parts: tuple[str, ...]  # of PARTS
    rules: Rules = field(default_factory=Rules)
    reward: RewardRecipe = field(default_factory=RewardRecipe)
    adapter: Mapping[Stage, GeneratorRecipe] = field(default_factory=dict)  # by STAGES
    repository: Path | None = None  # of the releases that drew the groups
    student: DistilRecipe = field(default_factory=tiny_student)
    order_weight: float = 0.0  # W of training.retraining.orders; 0: picks alone
    shop: Path | None = None  # LAKE/shop, with or without a version; read where orders count

    def __post_init__(self) -> None:
        if unknown := [part for part in self.parts if part not in PARTS]:
            raise ModelError(f"parts are {', '.join(PARTS)}; {', '.join(unknown)} is none")
        if not self.parts:
            raise ModelError(f"no part is to be trained; parts are {', '.join(PARTS)}")
        if "adapter" in self.parts and self.repository is None:
            raise ModelError("the adapter trains on what the base family's own generator drew: give --repository")
        if not 0 <= self.order_weight < float("inf"):
            raise ModelError(f"the weight of orders is {self.order_weight:g}, not 0 or more")
        if self.order_weight and self.shop is None:
            raise ModelError("orders are to count: give --shop LAKE/shop")

    @property
    def reads_pixels(self) -> bool:
        """Whether a part reads pictures of all groups, beside their tags."""
        return "reward" in self.parts

    def recipes(self) -> dict[str, object]:
        """The numbers of the parts, as JSON values."""
        of_adapter = {stage: recipe.made_with() | {"steps": recipe.steps} for stage, recipe in self.adapter.items()}
        of_reward = self.reward.made_with() | {"steps": self.reward.steps}
        every = {"reward": of_reward, "adapter": of_adapter, "student": self.student.made_with()}
        return {part: recipe for part, recipe in every.items() if part in self.parts}
