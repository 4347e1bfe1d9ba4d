"""The join where memory does not hold what it needs."""

from pathlib import Path

import pytest

from tests.training.retraining.events import group, pick
from tests.training.retraining.test_collecting import Collecting
from training.retraining import groups, raw


def test_a_group_that_memory_no_longer_holds_is_looked_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(groups, "_MOST_KEPT_BYTES", 1)
    of = Collecting(tmp_path)
    of.log.put(*(group(f"g{n}") for n in range(5)))
    collector = of.collect()
    assert not collector.joined._latest
    of.log.put(*(pick(f"g{n}", n % 3) for n in range(5)))
    of.collect(collector)
    assert [of.selected(f"g{n}") for n in range(5)] == [[0], [1], [2], [0], [1]]


def test_what_waits_is_counted_once_however_often_it_comes(tmp_path: Path) -> None:
    of = Collecting(tmp_path)
    of.log.put(pick("late", 0), pick("late", 0), pick("late", 1, sequence=2))
    joined = of.collect().joined
    assert joined.waiting_picks == 2 and of.open().joined.waiting_picks == 2
    of.log.put(group("late"))
    joined = of.collect().joined
    assert (joined.waiting_picks, joined.waiting_groups, joined.oldest()) == (0, 0, None)
    assert of.selected("late") == [1]


def test_a_correction_reads_no_events_and_a_pick_that_counts_no_more_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = Collecting(tmp_path)
    of.log.put(group("a"), pick("a", 0, sequence=5), group("b"), pick("b", 1, sequence=4))
    collector = of.collect()
    monkeypatch.setattr(raw, "about", None)  # not called
    of.log.put(pick("a", 2, sequence=8), pick("a", 1, sequence=9, size=4))  # the last one does not fit
    of.collect(collector)
    assert (of.selected("a"), of.selected("b"), len(of.letters)) == ([2], [1], 1)
    before = of.lake.open("groups").version()
    of.log.put(pick("a", 1, sequence=6), pick("b", 0, sequence=1))
    of.collect(collector)
    assert (of.selected("a"), of.selected("b"), of.lake.open("groups").version()) == ([2], [1], before)
