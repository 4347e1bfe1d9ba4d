"""Collecting processes that are killed at random moments while events come: what is lost, and what is there twice.

    PYTHONPATH=.:protos/gen:protos/client python -m tests.training.retraining.killing --name local --kills 20

Two processes collect into one lake, which no one should do, and one of them is killed (SIGKILL) around a commit, again
and again, while events are published, some of them twice. At the end a last one collects what is left. It prints what
`campaign` returns as JSON. Only events that Kafka acknowledged count.
"""

import argparse
import json
import multiprocessing
import random
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from kafka import KafkaProducer

from contract import topics
from contract.kafka_access import KafkaAccess
from deploy.local.kafka_broker import COLLECTOR, NAME, access
from deploy.local.layout import Layout
from tests.training.retraining.events import group, headers_of, pick, uuid
from training.retraining.following import Limits, follow
from training.retraining.lake import Lake

_WRITERS = 2
_PATIENCE_S = 240.0  # for a commit, on a machine that does much else
_STARTER = multiprocessing.get_context("forkserver")  # children that need not load the libraries again
_STARTER.set_forkserver_preload(["training.retraining.following"])


@dataclass
class Publisher:
    """Publishes groups with picks until it is told to stop; every seventh event twice."""

    kafka: KafkaAccess
    name: str  # of this campaign: no other one's events are counted
    sent: set[str] = field(default_factory=set)  # ids of acknowledged events
    picked: set[str] = field(default_factory=set)  # ids of groups
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Publishes; to be run in a thread."""
        producer, n = KafkaProducer(**self.kafka.config, acks="all", linger_ms=5), 0
        while not self._stop.wait(0.01):
            name, user_id = f"{self.name} {n}", f"{self.name} {n % 5}"
            messages = [(topics.GROUPS, group(name, user_id)), (topics.FEEDBACK, pick(name, n % 3, user_id=user_id))]
            futures = []
            for topic, message in messages if n % 2 else reversed(messages):
                headers, value = headers_of(message), message.SerializeToString()
                times = 2 if n % 7 == 0 else 1
                futures += [producer.send(topic, value, user_id.encode(), headers) for _ in range(times)]
                self.sent.add(dict(headers)[topics.HEADER_EVENT_ID].decode())
            for future in futures:
                future.get(timeout=_PATIENCE_S)
            self.picked.add(uuid(name))
            n += 1
        producer.close()

    def stop(self) -> None:
        """Lets the event at hand be finished."""
        self._stop.set()


def collecting(kafka: KafkaAccess, lake: str) -> BaseProcess:
    """A process that collects in small batches."""
    process = _STARTER.Process(target=_collect, args=(kafka, lake, False), daemon=True)
    process.start()
    return process


def _collect(kafka: KafkaAccess, lake: str, once: bool) -> None:
    follow(Lake(lake), kafka, Limits(records=20, seconds=0.1, once=once), say=lambda _: None)


def campaign(layout: Layout, folder: Path, kills: int, seed: int = 0) -> dict[str, int]:
    """Kills so many times; returns kills, and of events and groups together how many are lost and duplicated."""
    drawn, lake, name = random.Random(seed), Lake(str(folder)), f"killed {uuid(str(folder))}"
    publisher, kafka = Publisher(access(layout, NAME), name), access(layout, COLLECTOR)
    publishing = threading.Thread(target=publisher.run)
    publishing.start()
    processes = [collecting(kafka, lake.uri) for _ in range(_WRITERS)]
    try:
        for _ in range(kills):
            _wait_for_commits(folder, drawn.randint(1, 3))
            time.sleep(drawn.random() * 0.03)
            struck = drawn.randrange(_WRITERS)
            processes[struck].kill()
            processes[struck].join()
            processes[struck] = collecting(kafka, lake.uri)
    finally:
        publisher.stop()
        publishing.join()
        for process in processes:
            process.kill()
            process.join()
    last = _STARTER.Process(target=_collect, args=(kafka, lake.uri, True))
    last.start()
    last.join()
    assert last.exitcode == 0
    return {"kills": kills, "events": len(publisher.sent), **_compared(lake, publisher)}


def _compared(lake: Lake, publisher: Publisher) -> dict[str, int]:
    rows = lake.open("events").to_pyarrow_table(columns=["event_id", "user_id"]).to_pylist()
    events = Counter(row["event_id"] for row in rows if row["user_id"].startswith(publisher.name))
    rows = lake.open("groups").to_pyarrow_table(columns=["group_id", "user_id"]).to_pylist()
    groups = Counter(row["group_id"] for row in rows if row["user_id"].startswith(publisher.name))
    return {
        "lost": len(publisher.sent - events.keys()) + len(publisher.picked - groups.keys()),
        "duplicated": events.total() - len(events) + groups.total() - len(groups),
    }


def _wait_for_commits(folder: Path, more: int) -> None:
    """Returns when so many more commits are in either table."""
    logs = [folder / name / "_delta_log" for name in ("events", "groups")]

    def commits() -> int:
        return sum(1 for log in logs if log.is_dir() for _ in log.glob("*.json"))

    wanted, until = commits() + more, time.monotonic() + _PATIENCE_S
    while commits() < wanted:
        if time.monotonic() > until:
            raise TimeoutError(f"no commit in {_PATIENCE_S:.0f} s")
        time.sleep(0.002)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="local", help="of the local cluster whose Kafka it is")
    parser.add_argument("--port-offset", type=int, default=0)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found: dict[str, Any] = campaign(
            Layout(arguments.name, arguments.port_offset), Path(folder), arguments.kills, arguments.seed
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
