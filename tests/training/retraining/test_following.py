"""From a real Kafka into tables: to the topics' ends, until a signal, through kills, and what is refused."""

import gc
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from contract import topics
from contract.kafka_access import KafkaAccess
from contract.topics import DEAD_LETTERS, FEEDBACK, HEADER_REASON, HEADERS_ORIGIN, Partition
from deploy.local.kafka_broker import COLLECTOR, NAME, access
from deploy.local.layout import ROOT, Layout
from tests.integration.client import wait_until
from tests.training.retraining.events import TOPIC_OF, Log, Message, group, headers_of, pick, shop, uuid
from tests.training.retraining.killing import campaign
from training.data.table import check_data, read_table
from training.measurement.lift.events import read_events
from training.retraining import following, incoming
from training.retraining.broker import TOPICS, Bounds, Broker, KafkaRefused, TopicMissing, dead_letter
from training.retraining.following import Limits, follow, replay
from training.retraining.lake import Lake
from training.retraining.offsets import OffsetsLost
from training.retraining.status import state, status

ONCE = Limits(once=True)
NOWHERE = KafkaAccess("127.0.0.1:1")
SCHEMA = Path("training/weights/tiny/feature_schema.json").absolute()


class Publish:
    """Publishes events, and whatever is none."""

    def __init__(self, layout: Layout) -> None:
        self._producer = KafkaProducer(**access(layout, NAME).config, acks="all")

    def __call__(self, *messages: Message) -> None:
        for message in messages:
            self.raw(
                TOPIC_OF[type(message)], message.user_id.encode(), message.SerializeToString(), headers_of(message)
            )

    def raw(self, topic: str, key: bytes, value: bytes | None, headers: list[tuple[str, bytes]]) -> None:
        self._producer.send(topic, value, key=key, headers=headers).get(timeout=60)

    def close(self) -> None:
        self._producer.close()


@pytest.fixture
def publish(kafka: Layout) -> Iterator[Publish]:
    producer = Publish(kafka)
    yield producer
    producer.close()


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


def rows(lake: Lake, user_id: str) -> dict[str, dict[str, Any]]:
    """A merchant's groups."""
    found = lake.open("groups").to_pyarrow_table().to_pylist()
    return {row["group_id"]: row for row in found if row["user_id"] == user_id}


def test_what_is_published_is_a_table_that_trainings_read(kafka: Layout, publish: Publish, lake: Lake) -> None:
    lake.set_feature_schema(SCHEMA)
    user_id, collector = "read", access(kafka, COLLECTOR)
    publish(group("r1", user_id), pick("r2", 0, user_id=user_id), group("r2", user_id), pick("r1", 2, user_id=user_id))
    counts = follow(lake, collector, ONCE)
    assert rows(lake, user_id).keys() == {uuid("r1"), uuid("r2")}
    first = check_data(Path(lake.location("groups")))
    publish(group("r3", user_id), pick("r3", 1, user_id=user_id))
    assert follow(lake, collector, ONCE).events == 2 and counts.events >= 4
    assert uuid("r3") not in {row.group_id for row in read_table(first)}
    assert uuid("r3") in {row.group_id for row in read_table(Path(lake.location("groups")))}
    publish(
        *(shop("r1", kind, units=int(kind == "order"), user_id=user_id) for kind in ("impression", "click", "order"))
    )
    publish(shop("r1", "click", user_id=user_id))
    assert follow(lake, collector, ONCE).shop == 3
    events = read_events(Path(lake.location("shop")), 1800)
    assert sorted(events.kind.tolist()) == [0, 1, 2] and events.stores == [user_id]
    found = state(lake, collector)
    assert found["tables"]["shop"]["rows"] == 3
    assert all(p["lag"] == 0 for p in found["partitions"]) and found["tables"]["groups"]["rows"] >= 3
    assert "perfusion.feedback.v1" in status(lake, collector) and json.loads(status(lake, collector, json=True))


def test_a_dead_letter_keeps_its_record_origin_and_reason_and_may_be_replayed(
    kafka: Layout, publish: Publish, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    user_id, collector, said = "poisoned", access(kafka, COLLECTOR), list[str]()
    publish(group("p1", user_id), pick("p1", 1, user_id=user_id))
    bad = pick("p1", 2, user_id=user_id, sequence=2)
    publish.raw(FEEDBACK, user_id.encode(), bad.SerializeToString(), headers := headers_of(bad)[1:])  # no content-type
    publish.raw(FEEDBACK, user_id.encode(), b"\xff\xff", headers_of(bad))
    assert follow(lake, collector, ONCE).dead[FEEDBACK] >= 2
    assert follow(lake, collector, ONCE).records == 0
    letters = {letter.value: letter for letter in dead_letters(collector) if letter.key == user_id.encode()}
    assert letters.keys() == {bad.SerializeToString(), b"\xff\xff"}
    record, reason = dead_letter(letters[bad.SerializeToString()])
    assert (record.headers, record.origin.topic) == (tuple(headers), FEEDBACK) and "content-type is missing" in reason
    assert {*HEADERS_ORIGIN, HEADER_REASON} <= dict(letters[b"\xff\xff"].headers).keys()
    text = incoming._text  # the mended code takes events without a content-type
    monkeypatch.setattr(
        incoming, "_text", lambda h, name: topics.CONTENT_TYPE if name == topics.HEADER_CONTENT_TYPE else text(h, name)
    )
    still = replay(lake, collector, said.append)
    assert still.total() >= 1 and rows(lake, user_id)[uuid("p1")]["sequence"] == 2
    assert re.search(r"dead letters: \d+ are events now", said[0])
    assert len(dead_letters(collector)) == state(lake, collector)["dead_letters"]


def dead_letters(collector: KafkaAccess) -> list[incoming.Record]:
    broker = Broker(collector)
    bounds = broker.bounds(broker.partitions([DEAD_LETTERS]))
    broker.start({p: b.begin for p, b in bounds.items()})
    found = list[incoming.Record]()
    while len(found) < sum(b.end - b.begin for b in bounds.values()):
        found += broker.read(1000)
    broker.close()
    return found


def test_it_runs_until_a_signal_and_ends_between_two_batches(kafka: Layout, publish: Publish, lake: Lake) -> None:
    user_id, collector = "followed", access(kafka, COLLECTOR)
    command = [sys.executable, "-m", "training.retraining.collect", "--kafka", collector.bootstrap, "--lake", lake.uri]
    command += ["--kafka-certificates", str(collector.certificates)]
    command += ["--batch-seconds", "0.1", "--feature-schema", str(SCHEMA)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protos/gen'}"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE)
    try:
        publish(group("f1", user_id), pick("f1", 1, user_id=user_id))
        wait_until(lambda: lake.exists("groups") and uuid("f1") in rows(lake, user_id), 120)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0 and "ended: " in out and "lag" in out


def test_killed_processes_and_a_second_writer_lose_and_double_nothing(kafka: Layout, tmp_path: Path) -> None:
    found = campaign(kafka, tmp_path / "lake", kills=4)
    assert found["events"] > 0 and (found["lost"], found["duplicated"]) == (0, 0)


def test_a_topic_that_was_made_anew_is_refused_until_the_loss_is_accepted(
    kafka: Layout, publish: Publish, lake: Lake
) -> None:
    user_id, collector = "anew", access(kafka, COLLECTOR)
    publish(group("a1", user_id), pick("a1", 0, user_id=user_id), group("a2", user_id))
    follow(lake, collector, ONCE)
    with KafkaAdminClient(**access(kafka, NAME).config) as admin:
        admin.delete_topics([FEEDBACK])
        wait_until(lambda: FEEDBACK not in admin.list_topics(), 60)
        admin.create_topics([NewTopic(FEEDBACK, 3, 1)])
        wait_until(lambda: FEEDBACK in admin.list_topics(), 60)
    for _ in range(40):  # beyond every offset that the table knows
        publish(pick("a2", 1, user_id=user_id))
    with pytest.raises(OffsetsLost, match="made anew") as refused:
        follow(lake, collector, ONCE)
    accepted = str(refused.value).split()[-1]
    follow(lake, collector, ONCE, [accepted])
    assert rows(lake, user_id).keys() == {uuid("a1"), uuid("a2")}


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # kafka-python, of connections that were refused
def test_a_kafka_that_is_not_there_is_an_error_once_and_asked_again_otherwise(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.retraining.broker.PATIENCE_S", 0.2)
    said = refused(lake)
    gc.collect()  # the sockets of refused connections are told of here, and not in another test
    assert "127.0.0.1:1 does not answer" in said[0] and "asking again in 1 s" in said[1] and "ended" in said[-1]


class Unsteady:
    """A broker whose topics hold one group, and that fails when it is read for the n-th time, or the m-th, …"""

    def __init__(self, *fails: int, missing: Sequence[str] = ()) -> None:
        self.log, self.fails, self.missing, self.sessions = Log(), fails, missing, 0
        self.log.put(group("u"))

    def __call__(self, _: KafkaAccess) -> "Unsteady":
        self.sessions += 1
        return self

    def partitions(self, names: Sequence[str] = TOPICS) -> list[Partition]:
        for name in names:
            if name in self.missing:
                raise TopicMissing(f"no topic {name}")
        return [self.log.partition(topic) for topic in names if topic != DEAD_LETTERS]

    def bounds(self, partitions: Sequence[Partition]) -> dict[Partition, Bounds]:
        if self.sessions in self.fails:
            raise KafkaRefused("gone")
        return {p: Bounds(0, self.log.ends()[p]) for p in partitions}

    def start(self, offsets: dict[Partition, int]) -> None:
        self.at = offsets

    def read(self, _: int) -> list[incoming.Record]:
        if self.at == self.log.ends():
            raise KafkaRefused("gone after a batch")
        self.at = self.log.ends()
        return self.log.records

    def positions(self) -> dict[Partition, int]:
        return self.at

    def bury(self, *_: object) -> None: ...

    def close(self) -> None: ...


def test_a_missing_topic_ends_it_and_that_of_dead_letters_is_looked_for_at_first(
    lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "Broker", Unsteady(missing=[DEAD_LETTERS]))
    with pytest.raises(TopicMissing, match=DEAD_LETTERS):
        follow(lake, NOWHERE, Limits())
    assert not lake.exists("events")


def test_pauses_grow_until_a_batch_is_in_the_tables(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "Broker", Unsteady(1, 2))
    monkeypatch.setattr(following, "_PAUSES_S", (0.0, 0.6, 1.6))
    paused = list[str]()

    def stop(line: str) -> None:
        paused.extend(re.findall(r"asking again in (\d) s", line))
        if len(paused) == 4 and "asking" in line:
            os.kill(os.getpid(), signal.SIGTERM)

    follow(lake, NOWHERE, Limits(records=1), say=stop)
    assert paused == ["0", "1", "0", "1"]


def refused(lake: Lake) -> list[str]:
    """What is said where nothing listens: once, and until a signal comes."""
    said = list[str]()
    try:
        follow(lake, NOWHERE, ONCE)
    except KafkaRefused as error:
        said.append(str(error))

    def stop(line: str) -> None:
        said.append(line)
        if "asking again" in line:
            os.kill(os.getpid(), signal.SIGTERM)

    follow(lake, NOWHERE, Limits(), say=stop)
    return said
