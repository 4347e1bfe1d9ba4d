"""Which groups are held out: newer than all that was trained on, of one merchant only some."""

from dataclasses import replace
from datetime import timedelta

import pytest

from contract.errors import InputError
from tests.training.retraining.lake import BEGAN
from training.data.table import Candidate, Group
from training.retraining.hold_out import HoldOutError, Size, flooding, split
from training.retraining.offline_gate import GateMargins
from training.retraining.traffic_gate import hashed
from training.retraining.trained_on import TrainedOn

PICKED = (False, True, False)


def group(n: int, merchant: str | None = None, picked: tuple[bool, ...] = PICKED) -> Group:
    candidates = tuple(Candidate(f"{n}-{k}", pick, uri=f"file:///{n}-{k}") for k, pick in enumerate(picked))
    at = BEGAN + timedelta(minutes=n)
    return Group(f"g{n:05d}", merchant or f"m{n % 7}", "dress,red", candidates, {}, "feedback", at, 6)


GROUPS = [group(n) for n in range(40)]


def ids(groups: tuple[Group, ...]) -> list[int]:
    return [int(found.group_id[1:]) for found in groups]


def test_the_newest_groups_that_neither_family_was_trained_on_are_held_out() -> None:
    found = split(GROUPS, TrainedOn.of(GROUPS[:25]), TrainedOn.of(GROUPS[:10]), Size(held_out=10))
    assert ids(found.held_out) == list(range(30, 40))
    assert ids(found.new) == list(range(10, 25))
    assert found.known == {f"m{n}" for n in range(7)}
    live_is_newer = split(GROUPS, TrainedOn.of(GROUPS[:10]), TrainedOn.of(GROUPS[:25]), Size(held_out=50))
    assert ids(live_is_newer.held_out) == list(range(25, 40)) and live_is_newer.new == ()


def test_the_table_needs_no_longer_have_what_a_family_was_trained_on() -> None:
    erased = [group for group in GROUPS if group.user_id != "m3"]
    found = split(erased, TrainedOn.of(GROUPS[:25]), TrainedOn.of(GROUPS[:10]), Size(held_out=10))
    assert ids(found.held_out) == [n for n in range(28, 40) if n % 7 != 3]
    assert ids(found.new) == [n for n in range(10, 25) if n % 7 != 3]


def test_merchants_of_the_original_data_and_of_the_live_family_are_not_new() -> None:
    later = [group(50 + n, name) for n, name in enumerate(("original", "of live", "m1", "new"))]
    candidate = TrainedOn.of(GROUPS[:10], [group(-1, "original")], salt="s")
    found = split([*GROUPS, *later], candidate, TrainedOn.of([*GROUPS, group(-2, "of live")]), Size())
    assert ids(found.held_out) == [50, 51, 52, 53] and found.known == {"original", "of live", "m1"}


def test_a_group_without_a_choice_or_a_time_is_not_held_out_nor_one_that_was_picked_again() -> None:
    odd = [
        group(41, picked=(False, False, False)), group(42, picked=(True, True, True)),
        replace(group(43), create_time=None), replace(group(44), prompt=" "), replace(group(45), group_id="g00003"),
    ]  # fmt: skip
    found = split([*GROUPS, *odd], TrainedOn.of(GROUPS[:38]), None, Size())
    assert ids(found.held_out) == [38, 39]


def test_one_merchant_has_only_some_of_the_held_out_groups() -> None:
    flood = [group(n, "flood") for n in range(40, 100)]
    found = split([*GROUPS, *flood], TrainedOn.of(GROUPS[:20]), None, Size(of_merchant=5))
    assert ids(found.held_out) == [*range(20, 40), *range(95, 100)]


def test_no_hold_out_is_an_error_that_says_until_when_was_trained() -> None:
    with pytest.raises(HoldOutError, match=r"goes to 2026-11-26T07:39:00\+00:00"):
        split(GROUPS, TrainedOn.of(GROUPS), None, Size())
    with pytest.raises(HoldOutError, match="--trained-until"):
        split(GROUPS, None, None, Size())
    found = split(GROUPS, None, None, Size(), BEGAN + timedelta(minutes=37))
    assert ids(found.held_out) == [38, 39] and found.new == ()


def test_a_flooding_merchant_is_named_by_a_hash() -> None:
    (reason,) = flooding([*GROUPS, *(group(n, "flood") for n in range(60))], GateMargins())
    assert reason.startswith(f"one merchant ({hashed('flood')}) has 60 of the 100 new groups") and "60%; 25%" in reason
    assert flooding(GROUPS, GateMargins()) == [] and flooding([], GateMargins()) == []


@pytest.mark.parametrize("change", [{"held_out": 1}, {"drawn": 0}, {"candidates": 1}, {"seed": -1}, {"of_merchant": 0}])
def test_sizes_out_of_range_are_refused_by_name(change: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        Size(**change)
