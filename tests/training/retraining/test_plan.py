"""What a retraining can be asked for."""

from dataclasses import replace
from pathlib import Path

import pytest

from training.common.errors import ModelError
from training.generator.recipes import tiny
from training.retraining.plan import STAGES, Plan, Rules

PLAN = Plan(Path("groups"), Path("original"), Path("family"), Path("run"), ("wishes",))


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ({"original_share": 0.0}, "share of original data is 0"),
        ({"original_share": 1.0}, "share of original data is 1"),
        ({"hold_out": 1.5}, "hold-out is 1.5"),
        ({"hold_out": -1}, "hold-out is -1"),
        ({"merchant_share": 0.0}, "one merchant's share is 0"),
        ({"merchant_groups": 0}, "one merchant's groups are 0"),
    ],
)
def test_numbers_out_of_range_are_refused(rules: dict[str, float], told: str) -> None:
    with pytest.raises(ModelError, match=told):
        Rules(**rules)  # type: ignore[arg-type]


def test_parts_are_known_and_the_adapter_needs_a_repository() -> None:
    with pytest.raises(ModelError, match="taste, hope is none"):
        replace(PLAN, parts=("wishes", "taste", "hope"))
    with pytest.raises(ModelError, match="no part is to be trained"):
        replace(PLAN, parts=())
    with pytest.raises(ModelError, match="give --repository"):
        replace(PLAN, parts=("adapter",))
    assert replace(PLAN, parts=("adapter",), repository=Path("models")).parts == ("adapter",)


def test_only_the_recipes_of_its_parts_decide_a_run() -> None:
    whole = replace(PLAN, adapter={stage: tiny(stage) for stage in STAGES}, repository=Path("models"))
    assert whole.recipes() == {} and not whole.reads_pixels
    both = replace(whole, parts=("reward", "adapter"))
    assert both.reads_pixels and list(both.recipes()) == ["reward", "adapter"]
    changed = replace(both, reward=replace(both.reward, steps=7))
    assert changed.recipes()["reward"] != both.recipes()["reward"]
    assert changed.recipes()["adapter"] == both.recipes()["adapter"]
