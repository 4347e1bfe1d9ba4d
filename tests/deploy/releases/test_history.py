"""Lines of history: whole, in order, and what Kafka still is to hear."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contract.errors import ManifestError
from contract.repository import Repository
from contract.rollout import Rollout
from deploy.releases import state
from deploy.releases.history import PROMOTED, Change, History, parsed_time, served_at
from deploy.releases.state import State

FIRST = Change(
    1, "c0ffee", datetime(2026, 11, 26, 7, 0, tzinfo=UTC), PROMOTED, 6, None, None, None, 0.0, 0.05, 1, 0.02, "", "me"
)


def test_lines_are_added_and_read_again(tmp_path: Path) -> None:
    history = History(tmp_path)
    assert history.changes() == []
    written = [replace(FIRST, number=n, time=FIRST.time + timedelta(milliseconds=n)) for n in (1, 2, 3)]
    for change in written:
        history.append(change)
    assert history.changes() == written
    assert len(history.file.read_text().splitlines()) == 3


def test_a_line_that_a_power_loss_cut_off_was_not_written(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.append(FIRST)
    with history.file.open("a") as file:
        file.write('{"number": 2, "eve')
    assert history.changes() == [FIRST]
    history.append(replace(FIRST, number=2))
    assert [change.number for change in history.changes()] == [1, 2]


def test_a_line_out_of_form_is_named(tmp_path: Path) -> None:
    history = History(tmp_path)
    history.append(FIRST)
    history.file.write_text(history.file.read_text() + "{}\n")
    with pytest.raises(ManifestError, match=r"history\.jsonl cannot be read"):
        history.changes()


def test_what_kafka_has_not_acknowledged_is_owed(tmp_path: Path) -> None:
    history = History(tmp_path)
    for n in (1, 2, 3):
        history.append(replace(FIRST, number=n))
    assert [change.number for change in history.owed()] == [1, 2, 3]
    history.mark_announced(2)
    assert [change.number for change in history.owed()] == [3]
    (tmp_path / "releases" / "announced").write_text("?")
    assert len(history.owed()) == 3, "consumers drop what they hear again"


def test_numbers_and_times_only_rise(tmp_path: Path) -> None:
    """Though the history was lost, or the clock was set back."""
    repository, history = Repository(tmp_path), History(tmp_path)
    ahead = replace(FIRST, time=datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1))
    history.append(ahead)
    with state.changing(repository, "promote", print):
        state.change(repository, PROMOTED, State(None, None, Rollout()), State(6, None, Rollout()), "")
    assert [(change.number, change.time) for change in history.changes()] == [(1, ahead.time), (2, ahead.time)]
    history.mark_announced(2)
    history.file.unlink()
    with state.changing(repository, "promote", print):
        state.change(repository, PROMOTED, State(6, None, Rollout()), State(7, 6, Rollout()), "")
    assert [change.number for change in history.owed()] == [3]


def test_the_state_of_a_time_is_the_last_change_before_it() -> None:
    changes = [replace(FIRST, number=n, time=FIRST.time + timedelta(hours=n)) for n in (1, 2, 3)]
    numbers = [served_at(changes, FIRST.time + timedelta(hours=h)) for h in (0.5, 1, 2.9, 9)]
    assert [found and found.number for found in numbers] == [None, 1, 2, 3]


@pytest.mark.parametrize("text", ["2026-11-26T07:00:00Z", "2026-11-26T08:00:00+01:00", "2026-11-26 07:00"])
def test_times_have_a_zone_or_are_utc(text: str) -> None:
    assert parsed_time(text) == FIRST.time
