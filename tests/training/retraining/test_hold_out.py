"""Which groups are held out: newer than all that was trained on, of one merchant only some."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from contract.errors import InputError
from contract.feature_schema import FeatureSchema
from tests.training.retraining.lake import BEGAN, mixed_row, write_lake
from training.data.table import Candidate, Group, read_table
from training.retraining.hold_out import HoldOutError, Size, TrainedOn, flooding, record_of, split, trained_on
from training.retraining.offline_gate import GateMargins
from training.retraining.traffic_gate import hashed

ON_TRIAL, PICKED = (True, False, True), (False, True, False)


def group(n: int, merchant: str | None = None, picked: tuple[bool, ...] = PICKED) -> Group:
    candidates = tuple(Candidate(f"{n}-{k}", pick, uri=f"file:///{n}-{k}") for k, pick in enumerate(picked))
    at = BEGAN + timedelta(minutes=n)
    return Group(f"g{n:05d}", merchant or f"m{n % 7}", "dress,red", candidates, {}, "feedback", at, 6)


GROUPS = [group(n) for n in range(40)]


def ids(groups: tuple[Group, ...]) -> list[int]:
    return [int(found.group_id[1:]) for found in groups]


def test_the_newest_groups_that_neither_family_was_trained_on_are_held_out() -> None:
    found = split(GROUPS, TrainedOn(tuple(GROUPS[:25])), TrainedOn(tuple(GROUPS[:10])), Size(held_out=10))
    assert ids(found.held_out) == list(range(30, 40))
    assert ids(found.new) == list(range(10, 25)) and ids(found.old) == list(range(10))
    assert found.known == {f"m{n}" for n in range(7)}
    live_is_newer = split(GROUPS, TrainedOn(tuple(GROUPS[:10])), TrainedOn(tuple(GROUPS[:25])), Size(held_out=50))
    assert ids(live_is_newer.held_out) == list(range(25, 40)) and live_is_newer.new == ()


def test_a_group_without_a_choice_or_a_time_is_not_held_out_nor_one_that_was_picked_again() -> None:
    odd = [
        group(41, picked=(False, False, False)), group(42, picked=(True, True, True)),
        replace(group(43), create_time=None), replace(group(44), prompt=" "), replace(group(45), group_id="g00003"),
    ]  # fmt: skip
    found = split([*GROUPS, *odd], TrainedOn(tuple(GROUPS[:38])), None, Size())
    assert ids(found.held_out) == [38, 39]


def test_one_merchant_has_only_some_of_the_held_out_groups() -> None:
    flood = [group(n, "flood") for n in range(40, 100)]
    found = split([*GROUPS, *flood], TrainedOn(tuple(GROUPS[:20])), None, Size(of_merchant=5))
    assert ids(found.held_out) == [*range(20, 40), *range(95, 100)]


def test_no_hold_out_is_an_error_that_says_until_when_was_trained() -> None:
    with pytest.raises(HoldOutError, match=r"goes to 2026-11-26T07:39:00\+00:00"):
        split(GROUPS, TrainedOn(tuple(GROUPS)), None, Size())
    with pytest.raises(HoldOutError, match="--trained-until"):
        split(GROUPS, None, None, Size())
    found = split(GROUPS, None, None, Size(), BEGAN + timedelta(minutes=37))
    assert ids(found.held_out) == [38, 39] and found.new == ()


@pytest.fixture
def family(tmp_path: Path, schema: FeatureSchema) -> Callable[..., Path]:
    """A family trained on version 0 of a lake with ten groups, which has grown since."""
    lake = tmp_path / "lake"
    write_lake(lake, [mixed_row(n, f"m{n % 3}", ON_TRIAL, PICKED) for n in range(10)], schema)
    write_lake(lake, [mixed_row(n, "m0", ON_TRIAL, PICKED) for n in range(10, 20)], schema)

    def trained(**changes: Any) -> Path:
        record = {"table": str(lake), "table_version": 0, "hold_out": {"groups": ["g00009", "g00008"]}, "surplus": {}}
        root = tmp_path / "run" / "family"
        root.mkdir(parents=True, exist_ok=True)
        (root / "retraining.json").write_text(json.dumps(record | changes))
        return root

    return trained


def test_what_a_family_was_trained_on_is_read_from_its_version_of_the_table(
    family: Callable[..., Path], tmp_path: Path
) -> None:
    root = family()
    found = trained_on(root)
    assert found is not None and ids(found.groups) == list(range(8)) and found.until == BEGAN + timedelta(minutes=7)
    (root / "retraining.json").rename(tmp_path / "run" / "retraining.json")  # beside it is as good
    assert record_of(root) == tmp_path / "run" / "retraining.json" and trained_on(root) == found
    held_out = split(list(read_table(tmp_path / "lake")), found, None, Size()).held_out
    assert ids(held_out) == list(range(8, 20))
    assert trained_on(tmp_path) is None


def test_the_surplus_of_a_merchant_was_not_trained_on(family: Callable[..., Path]) -> None:
    found = trained_on(family(surplus={hashed("m0"): 2}))
    assert found is not None and ids(found.groups) == [0, 1, 2, 4, 5, 7]


@pytest.mark.parametrize("changes", [{"table": None}, {"hold_out": 3}, {"table_version": 9}])
def test_a_record_that_does_not_say_what_was_trained_on_is_refused(
    family: Callable[..., Path], changes: dict[str, Any]
) -> None:
    with pytest.raises(InputError):
        trained_on(family(**changes))


def test_a_flooding_merchant_is_named_by_a_hash() -> None:
    (reason,) = flooding([*GROUPS, *(group(n, "flood") for n in range(60))], GateMargins())
    assert reason.startswith(f"one merchant ({hashed('flood')}) has 60 of the 100 new groups") and "60%; 25%" in reason
    assert flooding(GROUPS, GateMargins()) == [] and flooding([], GateMargins()) == []


@pytest.mark.parametrize("change", [{"held_out": 1}, {"drawn": 0}, {"candidates": 1}, {"seed": -1}, {"of_merchant": 0}])
def test_sizes_out_of_range_are_refused_by_name(change: dict[str, int]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        Size(**change)
