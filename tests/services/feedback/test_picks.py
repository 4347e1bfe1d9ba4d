"""A pick is believed only if its images were shown, and a request id stands for one pick for ever."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.feedback.picks import (
    GroupOfAnother,
    GroupUnknown,
    NotShown,
    Pick,
    ShownGroup,
    believe,
    duplicates,
    same_pick,
)

GROUP = ShownGroup("g", "u", 3, ("a", "b", "c"))
PICK = Pick("r", "g", "u", ("c", "a"))
NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_a_believed_pick_splits_what_was_shown_in_the_order_shown() -> None:
    feedback = believe(PICK, GROUP, "e", NOW)
    assert feedback.selected_image_ids == ("a", "c")
    assert feedback.unselected_image_ids == ("b",)
    assert (feedback.event_id, feedback.release, feedback.create_time) == ("e", 3, NOW)


def test_an_empty_pick_leaves_everything_unselected() -> None:
    feedback = believe(replace(PICK, selected_image_ids=()), GROUP, "e", NOW)
    assert feedback.selected_image_ids == ()
    assert feedback.unselected_image_ids == ("a", "b", "c")


def test_repeated_ids_are_found_by_position() -> None:
    assert duplicates(("a", "b", "a", "c", "b", "a")) == [2, 4, 5]
    assert duplicates(("a", "b")) == []


def test_images_that_were_not_shown_are_refused_by_position() -> None:
    with pytest.raises(NotShown) as refused:
        believe(replace(PICK, selected_image_ids=("a", "x", "c", "y")), GROUP, "e", NOW)
    assert refused.value.positions == [1, 3]


def test_an_unknown_group_is_refused() -> None:
    with pytest.raises(GroupUnknown):
        believe(PICK, None, "e", NOW)


def test_another_users_group_is_refused_before_its_images_are_looked_at() -> None:
    with pytest.raises(GroupOfAnother):
        believe(replace(PICK, user_id="v", selected_image_ids=("x",)), GROUP, "e", NOW)


def test_a_repeat_is_the_same_pick_whatever_the_order() -> None:
    feedback = believe(PICK, GROUP, "e", NOW)
    assert same_pick(PICK, feedback)
    assert same_pick(replace(PICK, selected_image_ids=("a", "c")), feedback)


def test_any_other_content_is_another_pick() -> None:
    feedback = believe(PICK, GROUP, "e", NOW)
    assert not same_pick(replace(PICK, selected_image_ids=("a",)), feedback)
    assert not same_pick(replace(PICK, selected_image_ids=()), feedback)
    assert not same_pick(replace(PICK, group_id="h"), feedback)
    assert not same_pick(replace(PICK, user_id="v"), feedback)
