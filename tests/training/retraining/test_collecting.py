"""From records to tables, exactly once: through repeats, corrections, poison, ends at any step, and second writers."""

import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import SpanKind
from perfusion.v1.events_pb2 import ShopEvent

from contract import topics
from contract.topics import Partition
from tests.s3 import S3
from tests.spans import is_child, linked, recorded, trace_of
from tests.training.retraining.events import CLUSTER, TOPIC_OF, Log, group, headers_of, pick, shop, uuid
from training.measurement.lift.events import read_events
from training.retraining import collecting, offsets, upkeep
from training.retraining.broker import Bounds
from training.retraining.collecting import Collector, Counts, Letter
from training.retraining.erasing import erase
from training.retraining.incoming import Record
from training.retraining.lake import Lake, Raced


class Collecting:
    """A lake, and a log that is collected into it from where it goes on."""

    def __init__(self, folder: Path | str) -> None:
        self.lake, self.log = Lake(str(folder)), Log()
        self.letters: list[Letter] = []
        self.counts = Counts()

    def open(self) -> Collector:
        return Collector(self.lake, self.letters.extend, self.counts)

    def collect(self, collector: Collector | None = None) -> Collector:
        """Takes what comes next."""
        collector = collector or self.open()
        collector.add(self.rest(collector), self.log.ends())
        return collector

    def rest(self, collector: Collector) -> list[Record]:
        starts = collector.starts({p: Bounds(0, end) for p, end in self.log.ends().items()})
        at = {p.topic: offset for p, offset in starts.items()}
        return [record for record in self.log.records if record.origin.offset >= at[record.origin.topic]]

    def events(self) -> list[str]:
        return sorted(self.lake.open("events").to_pyarrow_table().column("event_id").to_pylist())

    def rows(self) -> dict[str, Any]:
        rows = self.lake.open("groups").to_pyarrow_table().to_pylist()
        assert len({row["group_id"] for row in rows}) == len(rows)
        return {row["group_id"]: row for row in rows}

    def shop(self) -> list[dict[str, Any]]:
        return self.lake.open("shop").to_pyarrow_table().sort_by("create_time").to_pylist()

    def selected(self, name: str) -> list[int]:
        """The places of the selected pictures."""
        row = self.rows()[uuid(name)]
        return [place for place, candidate in enumerate(row["candidates"]) if candidate["selected"]]


@pytest.fixture
def of(request: pytest.FixtureRequest, tmp_path: Path) -> Collecting:
    """In a folder, or for some tests in a bucket as well, where each commit takes longer."""
    if getattr(request, "param", FOLDER) == FOLDER:
        return Collecting(tmp_path / "lake")
    store: S3 = request.getfixturevalue("s3")
    return Collecting(f"{store.new_bucket()}/lake")


FOLDER, BUCKET = "folder", "bucket"
everywhere = pytest.mark.parametrize("of", [FOLDER, BUCKET], indirect=True)


@everywhere
def test_a_group_and_its_pick_become_a_row_in_whatever_order_they_come(of: Collecting) -> None:
    of.log.put(group("a"), pick("a", 1))
    collector = of.collect()
    of.log.put(pick("b", 0))
    of.collect(collector)
    assert (of.rows().keys(), collector.joined.waiting_picks) == ({uuid("a")}, 1)
    of.log.put(group("b"))
    of.collect(collector)
    assert (of.selected("a"), of.selected("b"), collector.joined.waiting_picks) == ([1], [0], 0)
    assert len(of.events()) == 4


def test_a_prompt_in_labels_is_collected_as_its_phrases(of: Collecting) -> None:
    made = group("twin")
    made.prompt, made.canonical_prompt = "连衣裙，V领", "dress,v-neck"
    of.log.put(group("a"), made, pick("a", 0), pick("twin", 0))
    of.collect()
    rows = of.rows()
    assert rows[uuid("twin")]["prompt"] == rows[uuid("a")]["prompt"] == "dress,v-neck"


def test_what_waits_is_known_after_a_new_start(of: Collecting) -> None:
    of.log.put(group("a"), group("b"), group("c"), pick("a", 1), pick("later", 0))
    of.collect()
    again = of.open()
    assert (again.joined.waiting_picks, again.joined.waiting_groups) == (1, 2)
    assert again.joined.oldest() is not None
    of.log.put(group("later"), pick("c", 2))
    of.collect(again)
    assert (of.selected("later"), of.selected("c")) == ([0], [2])


@everywhere
def test_a_corrected_pick_stands_in_the_place_of_the_old_one(of: Collecting) -> None:
    of.log.put(group("a"), pick("a", 0, sequence=5), group("b"), pick("b", 1))
    collector = of.collect()
    of.log.put(pick("a", 2, sequence=8))
    of.collect(collector)
    assert (of.selected("a"), of.selected("b")) == ([2], [1])
    of.log.put(pick("a", 1, sequence=6))  # comes late, and counts no more
    of.collect(of.open())
    assert of.selected("a") == [2]


def test_picks_without_a_sequence_count_in_their_topic_order(of: Collecting) -> None:
    of.log.put(group("a"), pick("a", 0, sequence=0), pick("a", 1, sequence=0))
    of.collect()
    assert of.selected("a") == [1]
    of.log.put(pick("a", 0, sequence=0))  # the first one again, by its id
    of.collect()
    assert of.selected("a") == [1] and of.counts.repeated == 1
    of.log.put(pick("a", 2, sequence=1))
    of.collect()
    assert of.selected("a") == [2]


def test_repeated_events_land_once_within_a_batch_and_later(of: Collecting) -> None:
    of.log.put(group("a"), group("a"), pick("a", 1))
    collector = of.collect()
    of.log.put(pick("a", 1), group("a"), pick("a", 1))
    of.collect(collector)
    of.log.put(pick("a", 1))
    of.collect(of.open())
    assert (len(of.events()), len(of.rows()), of.counts.repeated) == (2, 1, 5)


def test_poison_is_a_dead_letter_before_its_offset_is_passed(of: Collecting, monkeypatch: pytest.MonkeyPatch) -> None:
    of.log.put(group("a"), group("b"))
    bad = of.log.put_raw(topics.FEEDBACK, b"store-1", b"\xff\xff", headers_of(pick("a")))
    bad += of.log.put(pick("a", 0, user_id="store-2"), pick("b", 0, size=4))
    monkeypatch.setattr(collecting, "append", failing)
    with pytest.raises(Killed):
        of.collect()
    assert [record for record, _ in of.letters] == bad[:1]  # and no offset is passed
    monkeypatch.undo()
    of.letters.clear()
    of.collect()
    assert sorted(record.origin.offset for record, _ in of.letters) == [record.origin.offset for record in bad]
    assert (of.rows(), of.counts.dead[topics.FEEDBACK]) == ({}, 3)
    of.collect()
    assert len(of.letters) == 3


def test_a_dead_letter_is_no_obstacle_to_a_later_pick_that_fits(of: Collecting) -> None:
    of.log.put(group("a"), pick("a", 0, size=4, sequence=9), pick("a", 1, sequence=2))
    of.collect()
    of.log.put(pick("a", 2, sequence=3))
    of.collect()
    assert of.selected("a") == [2] and len(of.letters) == 1


def test_dead_letters_that_a_mended_code_reads_are_events_in_their_place(of: Collecting) -> None:
    of.log.put(group("a"), pick("a", 0, sequence=0))
    dead = of.log.put_raw(topics.FEEDBACK, b"store-1", None, headers_of(pick("a")))
    of.log.put(pick("a", 1, sequence=0))
    of.collect()
    first = Record(dead[0].origin, b"store-1", pick("a", 2, sequence=0).SerializeToString(), dead[0].headers)
    counts = Counts()
    assert not Collector(of.lake, of.letters.extend, counts).replay([first])
    assert counts.events == 1 and len(of.events()) == 4
    assert of.selected("a") == [1]  # the letter's place in its topic was before that pick
    assert not of.open().replay([first]) and len(of.events()) == 4  # again: nothing new
    assert of.open().replay(dead).total() == 1 and len(of.letters) == 1  # what is still dead is not buried again


class Killed(Exception):
    """Stands for a SIGKILL: nothing behind this point happens."""


def failing(*_: Any, **__: Any) -> None:
    raise Killed


def killed_after(call: Callable[..., None]) -> Callable[..., None]:
    def run(*given: Any, **named: Any) -> None:
        call(*given, **named)
        raise Killed

    return run


@pytest.mark.parametrize("step", ["append", "put", "_derive"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_end_at_any_step_loses_and_doubles_nothing(
    of: Collecting, monkeypatch: pytest.MonkeyPatch, step: str, moment: str
) -> None:
    of.log.put(group("a"), group("b"), pick("a", 0, sequence=1), pick("late", 0))
    of.collect()
    of.log.put(pick("a", 2, sequence=2), pick("b", 1), group("late"), group("c"))
    where = Collector if step == "_derive" else collecting
    whole = getattr(where, step)
    monkeypatch.setattr(where, step, failing if moment == "before" else killed_after(whole))
    with pytest.raises(Killed):
        of.collect()
    monkeypatch.undo()
    of.collect()
    assert len(of.events()) == len(set(of.events())) == 8
    assert (of.selected("a"), of.selected("b"), of.selected("late")) == ([2], [1], [0])
    assert of.open().joined.waiting_groups == 1


def replay_killed_before_it_derives(of: Collecting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Collects what is there and a dead letter, and replays the letter, mended: a pick of the third picture of "a"."""
    dead = of.log.put_raw(topics.FEEDBACK, b"store-1", None, headers_of(pick("a")))
    of.collect()
    mended = Record(dead[0].origin, b"store-1", pick("a", 2).SerializeToString(), dead[0].headers)
    monkeypatch.setattr(Collector, "_derive", failing)
    with pytest.raises(Killed):
        of.open().replay([mended])
    monkeypatch.undo()


def test_replayed_letters_that_were_not_derived_are_derived_at_the_next_start(
    of: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    of.log.put(group("a"), group("b"), pick("b", 0))
    replay_killed_before_it_derives(of, monkeypatch)
    of.open()
    assert (of.selected("a"), of.selected("b")) == ([2], [0])


def test_a_replay_that_changes_nothing_costs_no_derivation_and_buries_nothing_again(
    of: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    of.log.put(group("a"), pick("a", 0, size=4))  # an event that does not fit
    of.log.put_raw(topics.FEEDBACK, b"store-1", None, headers_of(pick("a")))
    of.collect()
    letters, version = [record for record, _ in of.letters], of.lake.open("events").version()
    assert of.open().replay(letters).total() == 2 and of.lake.open("events").version() == version
    monkeypatch.setattr(Collector, "_catch_up", failing)
    of.open()
    assert len(of.letters) == 2


def test_replayed_events_without_a_row_are_derived_once(of: Collecting, monkeypatch: pytest.MonkeyPatch) -> None:
    of.log.put(group("a"), pick("a", 0), pick("b", 0))
    dead = of.log.put_raw(topics.FEEDBACK, b"store-1", None, headers_of(pick("c")))
    of.collect()
    of.open().replay([Record(dead[0].origin, b"store-1", pick("c", 2).SerializeToString(), dead[0].headers)])
    monkeypatch.setattr(Collector, "_catch_up", failing)
    assert of.open().joined.waiting_picks == 2


def test_a_derivation_that_is_done_again_buries_only_what_is_new(
    of: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    of.log.put(group("a"), pick("a", 0, size=4), group("b"), pick("b", 0, size=4))
    replay_killed_before_it_derives(of, monkeypatch)
    monkeypatch.setattr(collecting, "_CHUNK", 1)
    monkeypatch.setattr(collecting, "append", failing)  # killed once more, at the end of what is done again
    with pytest.raises(Killed):
        of.open()
    monkeypatch.undo()
    assert len(of.letters) == 3
    of.open()
    assert of.selected("a") == [2] and len(of.letters) == 3


def test_an_accepted_loss_is_not_derived_at_every_start(of: Collecting, monkeypatch: pytest.MonkeyPatch) -> None:
    of.log.put(group("a"), pick("a", 0), group("b"), pick("b", 1), group("c"), pick("c", 2))
    of.collect()
    of.log.records.clear()  # Kafka has lost all, and others lie there now
    of.log.put(group("d"), pick("d", 1))
    collector = of.open()
    collector.add(of.log.records, of.log.ends())
    of.open()
    assert of.selected("d") == [1] and len(of.rows()) == 4
    monkeypatch.setattr(Collector, "_catch_up", failing)
    of.open()


@everywhere
def test_of_two_writers_one_wins_and_the_other_begins_anew(of: Collecting) -> None:
    of.log.put(group("a"), pick("a", 0))
    first, second = of.open(), of.open()
    of.log.put(group("b"), pick("b", 1))
    of.collect(first)
    with pytest.raises(Raced):
        of.collect(second)
    of.collect(of.open())
    assert (len(of.events()), len(of.rows())) == (4, 2)


def test_records_count_once_though_another_process_was_faster(of: Collecting) -> None:
    late = of.open()
    of.log.put(group("a"))
    of.collect()
    of.log.put(pick("a", 0), pick("a", 0))
    of.log.put_raw(topics.FEEDBACK, b"store-1", None, headers_of(pick("a")))
    with pytest.raises(Raced):
        of.collect(late)
    of.collect()
    assert (of.counts.records, of.counts.repeated, of.counts.dead.total()) == (4, 1, 1)


@everywhere
def test_a_writer_that_is_late_with_groups_alone_fails_too(of: Collecting, monkeypatch: pytest.MonkeyPatch) -> None:
    of.log.put(group("a"))
    late = of.collect()
    of.log.put(pick("a", 1))
    derive = Collector._derive

    def overtaken(self: Collector, *given: Any, **named: Any) -> Any:
        monkeypatch.undo()
        of.open()  # finds the event, and derives it
        return derive(self, *given, **named)

    monkeypatch.setattr(Collector, "_derive", overtaken)
    with pytest.raises(Raced):
        of.collect(late)
    assert of.selected("a") == [1]


def test_groups_that_were_taken_away_are_derived_again_from_the_events(tmp_path: Path) -> None:
    of = Collecting(tmp_path / "lake")
    of.log.put(group("a"), pick("a", 0), pick("a", 1, sequence=2), group("b"), pick("b"))
    of.collect()
    rows = of.rows()
    (tmp_path / "lake" / "groups").rename(tmp_path / "away")
    of.open()
    assert of.rows() == rows


@everywhere
def test_what_comes_of_an_erased_merchant_is_dropped_and_whoever_did_not_know_fails(of: Collecting) -> None:
    of.log.put(group("a"), pick("a", 0), group("b", "store-2"), pick("b", 0, user_id="store-2"))
    before = of.collect()
    of.log.put(group("c"), pick("c", 1), group("d", "store-2"), pick("d", 1, user_id="store-2"))
    erase(of.lake, "store-1")
    with pytest.raises(Raced):
        of.collect(before)
    of.log.put_raw(topics.FEEDBACK, b"store-1", b"\xff", [])  # of theirs, and poison
    of.collect()
    assert of.rows().keys() == {uuid("b"), uuid("d")} and len(of.events()) == 4
    assert (of.counts.erased, of.letters) == (3, [])


def test_offsets_never_move_backwards(of: Collecting) -> None:
    seen = []
    for n in range(6):
        of.log.put(group(f"g{n}"), pick(f"g{n}", 0), shop(f"g{n}", "click"))
        collector = of.collect()
        at = collector.starts({p: Bounds(0, end) for p, end in of.log.ends().items()})
        seen.append([at[p] for p in of.log.ends()])
    assert seen == sorted(seen) and seen[-1] == [6, 6, 6]


SOLD = [shop("a", "impression"), shop("a", "click"), shop("a", "order", units=2), shop("a", "return", 1, units=1)]


@everywhere
def test_what_happened_in_the_shop_is_there_once_with_its_picture(of: Collecting) -> None:
    of.log.put(group("a"), pick("a", 0), *SOLD, SOLD[2])
    of.collect()
    of.log.put(SOLD[0], shop("b", "click", 5))
    of.collect()
    rows = of.shop()
    assert len(rows) == 5 and of.counts.shop == 5 and of.counts.repeated == 2 and len(of.events()) == 2
    [order] = [row for row in rows if row["kind"] == "order"]
    assert (order["units"], order["item_id"], order["surface"], order["position"]) == (2, uuid("item a-0"), "search", 1)
    assert (order["group_id"], order["image_id"], order["arm"]) == (uuid("a"), uuid("a-0"), "treatment")
    assert of.open().joined.waiting_groups == 0


def test_lift_reads_the_table(of: Collecting) -> None:
    of.log.put(*SOLD)
    of.collect()
    events = read_events(Path(of.lake.location("shop")), 1800)
    assert sorted(events.kind.tolist()) == [0, 1, 2, 3] and sorted(events.units.tolist()) == [1, 1, 1, 2]
    assert (events.items, events.stores, events.treated_of.tolist()) == ([uuid("item a-0")], ["store-1"], [True])


def at(event: ShopEvent, days: float) -> ShopEvent:
    """The same so much later."""
    moved = ShopEvent()
    moved.CopyFrom(event)
    moved.event_time.FromDatetime(event.event_time.ToDatetime() + timedelta(days=days))
    return moved


def test_an_event_of_the_shop_that_comes_again_is_dropped_however_late_and_whatever_comes_with_it(
    of: Collecting,
) -> None:
    seen = [at(shop("a", "click", n), 0.123456789 * n) for n in range(12)]  # times finer than a table's log keeps
    for event in seen:
        of.log.put(event)
        of.collect()
    assert upkeep.compact(of.lake.open("shop"), fewest=2)  # files that are put together, too
    of.log.put(*seen[::3], at(shop("b", "order", 1, units=1), 400), *seen[::5])
    collector = of.collect()
    of.log.put(*seen[1::7], *seen[:1])
    of.collect(collector)
    assert len(of.shop()) == len({row["event_id"] for row in of.shop()}) == 13
    assert of.counts.shop == 13 and of.counts.repeated == len([*seen[::3], *seen[::5], *seen[1::7], *seen[:1]])


def test_events_of_the_shop_that_are_new_need_no_row_that_is_there(of: Collecting, tmp_path: Path) -> None:
    """So what is read and held does not grow with the table. Whatever came before is taken away to see it."""
    old = [at(shop("a", "click", n), n / 24) for n in range(3)]
    for event in old:
        of.log.put(event)
        of.collect()
    files = list((tmp_path / "lake" / "shop").glob("*.parquet"))
    kept = {file: file.read_bytes() for file in files}
    for file in files:
        file.unlink()
    of.log.put(at(shop("b", "click"), 1), at(shop("c", "click"), -1))
    of.collect()
    of.log.put(old[1])
    with pytest.raises(Raced):
        of.collect()
    for file, content in kept.items():
        file.write_bytes(content)
    of.collect()
    assert len(of.shop()) == 5 and of.counts.repeated == 1


def test_a_lake_from_before_the_shop_goes_on_and_begins_where_kafka_does(of: Collecting, tmp_path: Path) -> None:
    of.log.put(group("a"), pick("a", 0))
    of.collect()
    shutil.rmtree(tmp_path / "lake" / "shop")
    partition = of.log.partition(topics.SHOP)
    assert of.open().starts({partition: Bounds(7, 9)}) == {partition: 7}  # records from before 7 have ended
    of.log.put(*SOLD)
    of.collect()
    assert len(of.shop()) == 4 and of.selected("a") == [0]


def test_the_shops_topic_made_anew_is_refused_until_the_loss_is_accepted(of: Collecting) -> None:
    of.log.put(group("a"), *SOLD)
    of.collect()
    anew = {Partition(CLUSTER, topics.SHOP, "another", 0): Bounds(0, 3)}
    with pytest.raises(offsets.OffsetsLost, match="perfusion.shop.v1 was made anew") as refused:
        of.open().starts(anew)
    assert of.open().starts(anew, [str(refused.value).split()[-1]]) == dict.fromkeys(anew, 0)


@pytest.mark.parametrize("call", [0, 1])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_end_between_the_tables_loses_and_doubles_nothing(
    of: Collecting, monkeypatch: pytest.MonkeyPatch, call: int, moment: str
) -> None:
    of.log.put(group("a"), SOLD[0])
    of.collect()
    of.log.put(pick("a", 1), *SOLD[1:])
    calls, whole = list[int](), collecting.append

    def append(*given: Any) -> None:
        calls.append(1)
        if len(calls) > call and moment == "before":
            raise Killed
        whole(*given)
        if len(calls) > call:
            raise Killed

    monkeypatch.setattr(collecting, "append", append)
    with pytest.raises(Killed):
        of.collect()
    monkeypatch.undo()
    of.collect()
    assert len(of.shop()) == 4 and len(of.events()) == 2 and of.selected("a") == [1]


def test_of_two_writers_to_the_shop_one_wins(of: Collecting) -> None:
    first, second = of.open(), of.open()
    of.log.put(*SOLD)
    of.collect(first)
    version = of.lake.open("events").version()
    with pytest.raises(Raced):
        second.add(of.log.records, of.log.ends())
    of.collect()
    assert len(of.shop()) == 4 and of.lake.open("events").version() == version


def test_the_shop_alone_makes_no_commit_to_the_events(of: Collecting) -> None:
    of.log.put(group("a"), SOLD[0])
    collector = of.collect()
    before = of.lake.open("events").version(), of.lake.open("shop").version()
    of.log.put(*SOLD[1:])
    of.collect(collector)
    assert (of.lake.open("events").version(), of.lake.open("shop").version()) == (before[0], before[1] + 1)


def test_a_dead_letter_of_the_shop_is_replayed_into_its_table(of: Collecting) -> None:
    [bad] = of.log.put_raw(topics.SHOP, b"store-1", b"\xff", headers_of(SOLD[2]))
    of.log.put(SOLD[0])
    of.collect()
    assert of.counts.dead[topics.SHOP] == 1
    mended = Record(bad.origin, b"store-1", SOLD[2].SerializeToString(), bad.headers)
    assert not of.open().replay([mended]) and not of.open().replay([mended])
    assert {row["kind"] for row in of.shop()} == {"impression", "order"} and len(of.shop()) == 2


def test_of_an_erased_merchant_nothing_of_the_shop_comes(of: Collecting) -> None:
    of.log.put(*SOLD)
    before = of.collect()
    erase(of.lake, "store-1")
    of.log.put(shop("b", "click"), shop("c", "click", user_id="store-2"))
    with pytest.raises(Raced):
        of.collect(before)
    of.collect()
    assert [row["user_id"] for row in of.shop()] == ["store-2"] and of.counts.erased == 1


def test_a_batch_is_committed_in_the_traces_of_its_events(of: Collecting) -> None:
    def put(number: int, message: Any) -> None:
        headers = [*headers_of(message), ("traceparent", f"00-{number:032x}-00f067aa0ba902b7-01".encode())]
        of.log.put_raw(TOPIC_OF[type(message)], message.user_id.encode(), message.SerializeToString(), headers)

    put(1, group("a", "ada-of-the-old-mill"))
    put(2, pick("a", 1, user_id="ada-of-the-old-mill"))
    with recorded() as spans:
        collector = of.collect()
        batch, *commits = spans.one("collect"), spans.one("commit events"), spans.one("commit groups")
    assert batch.kind is SpanKind.CONSUMER and (trace_of(batch), linked(batch)) == (f"{1:032x}", {f"{2:032x}"})
    assert all(is_child(commit, batch) for commit in commits)
    tables = (collector.events, collector.groups)
    assert [commit.attributes for commit in commits] == [{"perfusion.table_version": t.version()} for t in tables]
    assert "ada" not in "".join(span.to_json() for span in spans.all())
