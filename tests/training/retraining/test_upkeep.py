"""Many small commits stay few files, with rows and offsets as they were."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.training.retraining.events import group, pick
from tests.training.retraining.test_collecting import Collecting
from training.retraining import offsets
from training.retraining.erasing import erase
from training.retraining.lake import EVENTS_SCHEMA, Lake, Raced, append
from training.retraining.upkeep import FEWEST, ORPHANED, Upkeep, remove_orphans


@pytest.mark.parametrize("commits", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_many_tiny_commits_are_few_files_while_they_come(tmp_path: Path, commits: int) -> None:
    table, upkeep = Lake(str(tmp_path)).open("events"), Upkeep(Lake(str(tmp_path)))
    most = 0
    for n in range(commits):
        row = dict.fromkeys(EVENTS_SCHEMA.names) | {"event_id": str(n), "offset": n}
        append(table, [row], EVENTS_SCHEMA, {"kafka/a": n + 1})
        upkeep.after_batch()
        most = max(most, len(Lake(str(tmp_path)).open("events").file_uris()))
    found = Lake(str(tmp_path)).open("events")
    assert most <= FEWEST and found.transaction_version("kafka/a") == commits
    assert sorted(int(i) for i in found.to_pyarrow_table().column("event_id").to_pylist()) == list(range(commits))


def test_collecting_goes_on_with_the_tables_that_were_put_together(tmp_path: Path) -> None:
    of = Collecting(tmp_path)
    upkeep, collector = Upkeep(of.lake), of.open()
    for n in range(FEWEST + 3):
        of.log.put(group(f"g{n}"), pick(f"g{n}", n % 3))
        of.collect(collector)
        upkeep.after_batch()
    assert len(of.events()) == 2 * len(of.rows()) == 2 * (FEWEST + 3)
    assert len(of.lake.open("groups").file_uris()) < FEWEST
    assert collector.events.transaction_version(offsets.name_of(next(iter(of.log.ends())))) == FEWEST + 3


def test_files_without_a_commit_go_when_they_are_old_and_nothing_else_does(tmp_path: Path) -> None:
    of = Collecting(tmp_path)
    of.log.put(group("a"), pick("a", 0))
    of.collect()
    folder = Path(of.lake.location("groups"))
    (folder / "feature_schema.json").write_text("{}")
    for name, age in (("part-old.parquet", 2 * ORPHANED), ("part-new.parquet", timedelta(0))):
        pq.write_table(of.lake.open("groups").to_pyarrow_table(), folder / name)
        os.utime(folder / name, (time.time() - age.total_seconds(),) * 2)
    assert remove_orphans(of.lake.open("groups"), ORPHANED) == 1
    left = {path.name for path in folder.iterdir()}
    assert {"part-new.parquet", "feature_schema.json"} <= left and "part-old.parquet" not in left
    Upkeep(of.lake).at_end()
    assert of.selected("a") == [0]


def crowded(tmp_path: Path) -> Collecting:
    """A lake with as many small files as are put together."""
    of = Collecting(tmp_path)
    collector = of.open()
    for n in range(FEWEST):
        of.log.put(group(f"g{n}", f"store-{n}"), pick(f"g{n}", n % 3, user_id=f"store-{n}"))
        of.collect(collector)
    return of


def test_a_second_writer_is_noticed_after_files_were_put_together(tmp_path: Path) -> None:
    of = crowded(tmp_path)
    late = of.open()
    of.log.put(group("a"), pick("a", 0))
    of.collect()
    Upkeep(of.lake).after_batch()
    with pytest.raises(Raced):
        of.collect(late)
    of.collect()
    assert len(of.events()) == len(set(of.events())) == len(of.log.records)


def test_an_erasure_is_noticed_after_files_were_put_together(tmp_path: Path) -> None:
    of = crowded(tmp_path)
    late = of.open()
    of.log.put(group("a", "store-1"), pick("a", 0, user_id="store-1"))
    erase(of.lake, "store-1")
    Upkeep(of.lake).after_batch()
    with pytest.raises(Raced):
        of.collect(late)
    assert all(row["user_id"] != "store-1" for row in of.rows().values())
