"""Events as rows and back, also from files that deltalake has rewritten."""

from pathlib import Path

import pytest
from deltalake import DeltaTable

from contract.topics import FEEDBACK, GROUPS
from tests.training.retraining.events import Log, group, pick, uuid
from training.retraining import raw
from training.retraining.incoming import GROUP, PICK, Event, event_of
from training.retraining.lake import EVENTS_SCHEMA, Lake, append

LOG = Log()
EVENTS = [event_of(r) for r in LOG.put(group("a"), pick("a", 1), group("b", "store-2"), pick("a", 2, sequence=2))]
OF_GROUPS, OF_PICKS = LOG.partition(GROUPS), LOG.partition(FEEDBACK)


@pytest.fixture(params=["as written", "rewritten"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> DeltaTable:
    table = Lake(str(tmp_path)).open("events")
    extra = [event_of(record) for record in Log().put(group("extra"))]
    append(table, [raw.row_of(event) for event in [*EVENTS, *extra]], EVENTS_SCHEMA, {"x": 1})
    table.delete(f"group_id = '{uuid('extra')}'") if request.param == "rewritten" else None
    return table


def ids(events: list[Event]) -> set[str]:
    return {event.event_id for event in events} & {event.event_id for event in EVENTS}


def test_an_event_comes_back_as_it_was(table: DeltaTable) -> None:
    found = {event.event_id: event for event in raw.beyond(table, {OF_GROUPS: 0, OF_PICKS: 0})}
    for event in EVENTS:
        back = found[event.event_id]
        assert (back.message, back.event_time, back.event_type) == (event.message, event.event_time, event.event_type)
        assert (back.record.origin, back.record.key) == (event.record.origin, event.record.key)


def test_what_lies_beyond_offsets(table: DeltaTable) -> None:
    assert raw.ends(table) == {p: end for p, end in LOG.ends().items() if end}
    assert ids(list(raw.beyond(table, {OF_PICKS: 1}))) == {EVENTS[3].event_id}
    assert ids(list(raw.beyond(table, {OF_GROUPS: 1, OF_PICKS: 2}))) == {EVENTS[2].event_id}
    assert ids(list(raw.beyond(table, {}))) == set()


def test_what_is_about_groups(table: DeltaTable) -> None:
    assert ids(list(raw.about(table, [uuid("a")]))) == ids([EVENTS[0], EVENTS[1], EVENTS[3]])
    assert ids(list(raw.about(table, [uuid("a"), uuid("b")], GROUP))) == ids([EVENTS[0], EVENTS[2]])
    assert ids(list(raw.about(table, [uuid("b")], PICK))) == set()


def test_ids_tell_kinds_and_places(table: DeltaTable) -> None:
    told = set(raw.ids(table, {OF_PICKS: 1}))
    assert (PICK, uuid("a"), True) in told and (PICK, uuid("a"), False) in told and (GROUP, uuid("b"), False) in told
    assert raw.held(table, [EVENTS[0].event_id, "none"]) == {EVENTS[0].event_id}
    assert {group_id for group_id, _ in raw.generated(table)} >= {uuid("a"), uuid("b")}
