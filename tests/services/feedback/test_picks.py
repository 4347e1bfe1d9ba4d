"""A pick is believed only if its images were shown, and a request id stands for one pick for ever."""

from dataclasses import replace
from typing import Any

import pytest

from services.feedback.picks import Pick, ShownGroup, believe, check_same, duplicates
from services.runtime.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied

GROUP = ShownGroup("g", "u", 3, ("a", "b", "c"))
PICK = Pick("r", "g", "u", ("c", "a"))
NOW = 1_767_312_000_000_000  # microseconds since 1970, UTC


def test_a_believed_pick_splits_what_was_shown_in_the_order_shown() -> None:
    feedback = believe(PICK, GROUP, "e", NOW)
    assert feedback.selected_image_ids == ("a", "c")
    assert feedback.unselected_image_ids == ("b",)
    assert (feedback.event_id, feedback.release, feedback.create_time_us) == ("e", 3, NOW)


def test_an_empty_pick_leaves_everything_unselected() -> None:
    feedback = believe(replace(PICK, selected_image_ids=()), GROUP, "e", NOW)
    assert feedback.selected_image_ids == ()
    assert feedback.unselected_image_ids == ("a", "b", "c")


def test_repeated_ids_are_found_by_position() -> None:
    assert duplicates(("a", "b", "a", "c", "b", "a")) == [2, 4, 5]
    assert duplicates(("a", "b")) == []


def test_images_that_were_not_shown_are_refused_by_position() -> None:
    with pytest.raises(InvalidArgument) as refused:
        believe(replace(PICK, selected_image_ids=("a", "x", "c", "y")), GROUP, "e", NOW)
    assert [field for field, _ in refused.value.violations] == ["selected_image_ids[1]", "selected_image_ids[3]"]


def test_an_unknown_group_is_refused() -> None:
    with pytest.raises(NotFound, match="no group g"):
        believe(PICK, None, "e", NOW)


def test_another_users_group_is_refused_before_its_images_are_looked_at() -> None:
    with pytest.raises(PermissionDenied):
        believe(replace(PICK, user_id="v", selected_image_ids=("x",)), GROUP, "e", NOW)


def test_a_repeat_is_the_same_pick_whatever_the_order() -> None:
    feedback = believe(PICK, GROUP, "e", NOW)
    check_same(PICK, feedback)
    check_same(replace(PICK, selected_image_ids=("a", "c")), feedback)


@pytest.mark.parametrize(
    "other",
    [{"selected_image_ids": ("a",)}, {"selected_image_ids": ()}, {"group_id": "h"}, {"user_id": "v"}],
    ids=["fewer", "none", "another group", "another user"],
)
def test_any_other_content_is_another_pick(other: dict[str, Any]) -> None:
    feedback = believe(PICK, GROUP, "e", NOW)
    with pytest.raises(AlreadyExists):
        check_same(replace(PICK, **other), feedback)
