"""Sets are matched by category, blocks are balanced."""

import numpy as np
import pytest

from tests.training.measurement.rating.conftest import items_of
from training.measurement.errors import MeasurementError
from training.measurement.rating.matching import balance, blocks, matched


def test_a_set_has_one_item_of_each_method_and_one_category() -> None:
    items = items_of(7, ("diffusion", "human", "perfusion"))
    found = matched(items[1:], np.random.default_rng(0))
    assert len(found.sets) == 13
    for group in found.sets:
        assert [item.method for item in group] == ["diffusion", "human", "perfusion"]
        assert len({item.category for item in group}) == 1
    used = [item.item_id for group in found.sets for item in group]
    assert len(set(used)) == len(used) == 39
    assert {item.category for item in found.left_out} == {"coat"}
    assert len(found.left_out) == 2


def test_which_items_meet_is_chance() -> None:
    pairs = [{tuple(i.item_id for i in s) for s in matched(items_of(9), np.random.default_rng(n)).sets} for n in (0, 1)]
    assert pairs[0] != pairs[1]


def test_nothing_to_compare_is_refused() -> None:
    with pytest.raises(MeasurementError, match="two methods"):
        matched(items_of(3, ("human",)), np.random.default_rng(0))
    apart = [item for item in items_of(3) if (item.category == "coat") == (item.method == "human")]
    with pytest.raises(MeasurementError, match="no category"):
        matched(apart, np.random.default_rng(0))


@pytest.mark.parametrize(("sets", "raters", "each"), [(56, 8, 3), (40, 8, 3), (7, 7, 3), (10, 5, 5), (13, 6, 2)])
def test_shares_differ_by_one_at_most_and_pairs_of_raters_hardly_more(sets: int, raters: int, each: int) -> None:
    chosen = blocks(sets, raters, each, np.random.default_rng(0))
    assert (chosen.sum(1) == each).all()
    found = balance(chosen)
    assert found["sets_of_a_rater_most"] - found["sets_of_a_rater_least"] <= 1
    assert found["shared_by_two_raters_most"] - found["shared_by_two_raters_least"] <= 2


def test_more_raters_than_there_are_is_refused() -> None:
    with pytest.raises(MeasurementError, match="there are 2"):
        blocks(5, 2, 3, np.random.default_rng(0))
