"""Records are groups and picks, tell nothing, or are poison."""

from dataclasses import replace

import pytest

from services.runtime.records import Record
from services.user_embedding.incoming import Pick, Poison, ShownGroup, read, sent_at_s
from tests.services.user_embedding.events import TIME_US, group_event, pick_event

GROUP = group_event("g1", {"a": ["sequins"], "b": ["hand-sewn ruffles"]})
PICK = pick_event("g1", ["b"], 7)


def test_a_group_is_what_its_candidates_showed() -> None:
    assert read(GROUP) == ShownGroup("g1", "u", TIME_US, {"a": ("sequins",), "b": ("hand-sewn ruffles",)})


def test_a_pick_is_its_place_and_its_pictures() -> None:
    assert read(PICK) == Pick("g1", "u", 7, ("b",))


@pytest.mark.parametrize("wishes", [[], ["sequins"]])
def test_a_group_of_candidates_that_showed_the_same_tells_nothing(wishes: list[str]) -> None:
    assert read(group_event("g1", {"a": wishes, "b": wishes})) is None


@pytest.mark.parametrize(
    "broken",
    [
        replace(GROUP, key=None),
        replace(GROUP, key=b"another"),
        replace(PICK, value=None),
        replace(PICK, value=b"\xff\xff"),
        replace(PICK, headers={}),
        replace(PICK, headers={"event-type": b"perfusion.v1.ReleaseChanged"}),
        pick_event("", ["b"], 1),
        pick_event("g" * 37, ["b"], 1),
        pick_event("g\0", ["b"], 1),
        pick_event("g1", ["b"], -1),
        pick_event("g1", ["b"], 1, user_id="u" * 129),
    ],
)
def test_what_is_no_event_is_poison(broken: Record) -> None:
    with pytest.raises(Poison):
        read(broken)


def test_the_time_of_sending_is_in_the_headers() -> None:
    assert sent_at_s(PICK) is not None and sent_at_s(replace(PICK, headers={})) is None
