"""The row of a group and its counting pick."""

from datetime import timedelta
from itertools import permutations

import pyarrow as pa
import pytest
from perfusion.v1.group_pb2 import ARM_LIVE, ARM_MIXED

from tests.training.retraining.events import BEGIN, Log, group, pick, uuid
from training.data.columns import column_problems
from training.retraining.incoming import event_of
from training.retraining.joining import GROUPS_SCHEMA, counting, misfit, row_of


def test_a_row_has_everything_that_trainings_read_and_what_the_gate_needs() -> None:
    made = group("a", at=7)
    made.candidates.sort(key=lambda candidate: -candidate.rank)  # a row is in the order of ranks
    made.candidates[0].release = 5
    made.assignment.arm, made.assignment.propensity, made.assignment.trial_release = ARM_MIXED, 0.25, 5
    row = row_of(made, pick("a", 2, sequence=9))
    assert [c["image_id"] for c in row["candidates"]] == [uuid(f"a-{place}") for place in range(3)]
    assert [c["selected"] for c in row["candidates"]] == [False, False, True]
    assert [c["release"] for c in row["candidates"]] == [4, 4, 5]  # a candidate's own, or the group's
    assert row["candidates"][0] == {
        "image_id": uuid("a-0"), "uri": "file:///pictures/a-0.png", "selected": False, "release": 4,
        "wishes": ["lace"], "score": 1.0, "rank": 1, "seed": 0,
    }  # fmt: skip
    assert (row["features"], row["origin"], row["release"]) == ('{"style": "luxury"}', "feedback", 4)
    assert (row["create_time"], row["feedback_time"]) == (BEGIN + timedelta(seconds=7), BEGIN + timedelta(hours=1))
    assert (row["sequence"], row["arm"], row["propensity"], row["trial_release"]) == (9, "mixed", 0.25, 5)
    assert pa.Table.from_pylist([row], schema=GROUPS_SCHEMA).to_pylist() == [row]


def test_trainings_read_the_prompt_that_models_read() -> None:
    made = group("a")
    assert row_of(made, pick("a"))["prompt"] == made.prompt  # from before labels were read
    made.prompt, made.canonical_prompt = "连衣裙，V领", "dress,v-neck"
    assert row_of(made, pick("a"))["prompt"] == "dress,v-neck"


def test_a_group_from_before_there_were_arms_says_nothing_of_them() -> None:
    row = row_of(group("a"), pick("a"))
    assert (row["arm"], row["propensity"], row["trial_release"]) == (None, None, None)
    assert not any(candidate["selected"] for candidate in row["candidates"])  # a pick of nothing


def test_a_group_that_the_live_release_took_over_keeps_the_release_on_trial() -> None:
    made = group("a")
    made.assignment.arm, made.assignment.propensity, made.assignment.trial_release = ARM_LIVE, 0.5, 5
    row = row_of(made, pick("a"))
    assert (row["arm"], row["propensity"], row["trial_release"]) == ("live", 0.5, 5)


def test_the_columns_are_those_of_every_table() -> None:
    assert {problem.weight for problem in column_problems(GROUPS_SCHEMA, "groups")} == {"note"}


def test_a_profile_is_json_whatever_its_values_are() -> None:
    made = group("a")
    made.user_features["audience"].string_list_value.values.extend(["professionals", "students"])
    made.user_features["years_open"].number_value = 2.5
    made.user_features["unset"].SetInParent()
    wanted = '{"audience": ["professionals", "students"], "style": "luxury", "years_open": 2.5}'
    assert row_of(made, pick("a"))["features"] == wanted


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_greatest_sequence_counts_in_whatever_order_picks_come(order: tuple[int, ...]) -> None:
    picks = [event_of(r) for r in Log().put(*(pick("a", n, sequence=s) for n, s in enumerate((4, 9, 2))))]
    assert counting(picks[n] for n in order).pick == pick("a", 1, sequence=9)


def test_picks_without_a_sequence_count_by_their_topic_order_and_before_all_others() -> None:
    old = [event_of(r) for r in Log().put(pick("a", 0, sequence=0), pick("a", 1, sequence=0))]
    assert counting(reversed(old)) == old[1]
    (new,) = (event_of(r) for r in Log().put(pick("a", 2, sequence=1)))  # at offset 0
    assert counting([*old, new]) == new


def test_a_pick_fits_its_own_group_only() -> None:
    assert misfit(pick("a", 0), group("a")) is None
    assert "another user" in str(misfit(pick("a", 0, user_id="store-2"), group("a")))
    assert uuid("b-0") in str(misfit(pick("b", 0), group("a")))
