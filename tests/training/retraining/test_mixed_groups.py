"""Mixed groups from the table of picks: in the order of arrival; what cannot be compared is counted by its reason."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from contract.feature_schema import FeatureSchema
from tests.training.retraining.lake import BEGAN, LIVE, TRIAL, mixed_row, write_lake
from training.data.columns import TableError
from training.data.table import Candidate, Group, write_table
from training.retraining.mixed_groups import MixedGroups, mixed_groups, read_mixed_groups

FIRST_TWO, FIRST = (True, True, False, False, False), (True, False, False, False, False)
COULD_NOT = "no candidate of release 7 on trial, which could not draw"


def taken_over(n: int, picked: tuple[bool, ...] = FIRST) -> dict[str, Any]:
    """A group that was to be mixed, as it is when the live release made it."""
    return mixed_row(n, "a", (False,) * 5, picked, arm="live")


def test_only_this_trials_groups_count_in_the_order_in_which_their_picks_arrived(
    tmp_path: Path, schema: FeatureSchema
) -> None:
    rows = [
        mixed_row(0, "a", FIRST_TWO, FIRST, feedback_time=BEGAN + timedelta(days=1)),  # picked again, later
        mixed_row(1, "b", FIRST_TWO, (False, False, True, False, False)),
        mixed_row(2, "a", FIRST_TWO, (True, False, True, False, False)),
        mixed_row(3, "a", FIRST_TWO, FIRST, arm="live", trial_release=None),
        mixed_row(4, "a", FIRST_TWO, FIRST, trial_release=TRIAL + 1),
        mixed_row(5, "a", FIRST_TWO, FIRST, create_time=BEGAN - timedelta(seconds=1)),  # of an earlier trial
        taken_over(6),
    ]
    lake = write_lake(tmp_path / "groups", rows[:3], schema)
    write_lake(lake, rows[3:], schema)
    found = read_mixed_groups(lake, LIVE, TRIAL, BEGAN)
    assert [(group.group_id, group.merchant) for group in found.groups] == [
        ("g00001", "b"), ("g00002", "a"), ("g00000", "a")
    ]  # fmt: skip
    assert [group.beyond for group in found.groups] == pytest.approx([-0.4, 0.1, 0.6])
    assert dict(found.unusable) == {COULD_NOT: 1}
    assert (found.version, found.shown, found.broken) == (1, 4, 1)
    assert read_mixed_groups(Path(f"{lake}@0"), LIVE, TRIAL, BEGAN).version == 0


def changed(place: int, **values: Any) -> dict[str, Any]:
    row = mixed_row(0, "a", FIRST_TWO, FIRST)
    row["candidates"][place] |= values
    return row


@pytest.mark.parametrize(
    ("row", "reason", "broken"),
    [
        (mixed_row(0, "a", (False,) * 5, FIRST), "no candidate of release 7 on trial", 1),
        (taken_over(0), COULD_NOT, 1),
        (taken_over(0, (False,) * 5), COULD_NOT, 1),
        (mixed_row(0, "a", (True,) * 5, FIRST), "no candidate of the live release 6", 1),
        (changed(4, release=5), "a candidate of neither release", 1),
        (changed(4, release=None), "a candidate of neither release", 1),
        (changed(4, selected=None), "a candidate that does not say whether it was picked", 1),
        (mixed_row(0, "", FIRST_TWO, FIRST), "no merchant or no time of the pick", 1),
        (mixed_row(0, "a", FIRST_TWO, FIRST, feedback_time=None), "no merchant or no time of the pick", 1),
        (mixed_row(0, "a", (), ()), "no candidate of release 7 on trial", 1),
        (mixed_row(0, "a", FIRST_TWO, (False,) * 5), "no pick in it", 0),
        (mixed_row(0, "a", FIRST_TWO, (True,) * 5), "every candidate picked", 0),
    ],
)
def test_what_cannot_be_compared_is_counted_by_its_reason(row: dict[str, Any], reason: str, broken: int) -> None:
    found = mixed_groups([row], LIVE, TRIAL)
    assert found.groups == [] and dict(found.unusable) == {reason: 1}
    assert (found.broken, found.shown) == (broken, 1)


def test_the_latest_groups_say_whether_a_trial_broke() -> None:
    sound = [mixed_row(n, "a", FIRST_TWO, FIRST) for n in range(900)]
    assert mixed_groups(sound, LIVE, TRIAL).broken_share == 0 == MixedGroups().broken_share
    late = mixed_groups([*sound, *(taken_over(n) for n in range(900, 940))], LIVE, TRIAL)
    assert (late.broken, late.shown, late.broken_share) == (40, 940, 0.4)
    early = mixed_groups([*(taken_over(n) for n in range(-300, 0)), *sound], LIVE, TRIAL)
    assert early.broken_share == 300 / 1200


def test_a_group_counts_once_by_its_last_pick() -> None:
    again = mixed_row(0, "a", FIRST_TWO, (False, False, True, False, False), feedback_time=BEGAN + timedelta(days=1))
    found = mixed_groups([again, mixed_row(0, "a", FIRST_TWO, FIRST)], LIVE, TRIAL)
    assert [group.beyond for group in found.groups] == pytest.approx([-0.4])
    assert dict(found.unusable) == {"the same group again": 1}


def test_a_table_without_the_columns_of_collecting_is_refused(tmp_path: Path, schema: FeatureSchema) -> None:
    candidates = (Candidate("1", True, b"1"), Candidate("2", False, b"2"))
    write_table(tmp_path / "plain", [Group("g", "u", "dress", candidates)], schema)
    with pytest.raises(TableError, match="lacks feedback_time, arm, trial_release"):
        read_mixed_groups(tmp_path / "plain", LIVE, TRIAL, BEGAN)
    with pytest.raises(TableError, match="does not exist"):
        read_mixed_groups(tmp_path / "absent", LIVE, TRIAL, BEGAN)
