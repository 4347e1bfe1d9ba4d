"""How many picks a second feedback takes, against the Kafka library that it uses writing the same bytes directly.

    python -m deploy.benchmarks.picks                     10,000 picks three times, on a cluster of its own
    python -m deploy.benchmarks.picks --picks 2000 --repeats 1

The groups are real ones: GROUPS rounds of the generation service, 16 candidates each, of as many merchants. A merchant
may correct a pick, so each group gives as many different picks as are needed. The first pick of each group is not
counted: it has feedback ask for the group. Then everything stops but Kafka, generation and feedback, and each repeat
measures, one after the other, with the same number of picks in flight:

    producer   kafka-python with feedback's own settings sends feedback's events, their bytes made before; each pick is
               done when Kafka has acknowledged it
    import     perfusion.client imports the picks by ImportFeedback; a pick is done when its OK has come
    submit     many callers, each with one SubmitFeedback after the other, over several connections

Prints the rates and their ratios to the producer's, and the CPU time of each process; build/bench/picks.json has all.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from kafka import KafkaProducer
from perfusion.client import PerFusion
from perfusion.v1.events_pb2 import FeedbackGiven
from perfusion.v1.feedback_service_pb2 import SubmitFeedbackRequest, SubmitFeedbackResponse
from perfusion.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from perfusion.v1.group_pb2 import Group
from tqdm import tqdm

from contract import topics
from deploy.benchmarks.cpu import process_s
from deploy.local import kafka_broker
from deploy.local.clients import open_aio_channel
from deploy.local.cluster import Cluster, ClusterError
from deploy.local.layout import ROOT, Layout
from services.feedback.messages import event_message
from services.feedback.picks import Pick, ShownGroup, believe
from services.runtime.events import DELIVERY, Event, headers_of

OUT = ROOT / "build" / "bench"
CANDIDATES = 16
CONNECTIONS = 8
CALL_TIMEOUT_S = 60.0
WAYS = ("producer", "import", "submit")
NEEDED = ("kafka", "generation", "feedback")  # once the groups are there


@dataclass(frozen=True)
class Measured:
    """One way of one repeat. CPU times are of a pick, in microseconds, by process."""

    way: str
    picks_per_s: float
    cpu_us: dict[str, float]


def groups_of(client: PerFusion, count: int) -> list[Group]:
    """Real groups, each of a merchant of its own. One step paints nothing worth seeing, and nobody looks."""
    groups = []
    for i in tqdm(range(count), desc="groups"):
        user_id = f"picks-{i}"
        client.put_profile(user_id, {})
        groups.append(client.generate(user_id, "dress,v-neck", num_candidates=CANDIDATES, num_steps=1, seed=i).group())
    return groups


def picks_of(groups: Sequence[Group], count: int, draw: random.Random) -> list[SubmitFeedbackRequest]:
    """Picks of the groups in turn, one to four pictures each."""
    picks = []
    for i in range(count):
        group = groups[i % len(groups)]
        chosen = draw.sample([each.image_id for each in group.candidates], draw.randint(1, 4))
        picks.append(
            SubmitFeedbackRequest(
                request_id=str(uuid.UUID(int=draw.getrandbits(128), version=4)),
                group_id=group.group_id,
                user_id=group.user_id,
                selected_image_ids=chosen,
            )
        )
    return picks


def events_of(groups: Sequence[Group], picks: Sequence[SubmitFeedbackRequest]) -> list[Event]:
    """The events that feedback makes of these picks."""
    shown = {
        group.group_id: ShownGroup(
            group.group_id, group.user_id, group.release, tuple(each.image_id for each in group.candidates)
        )
        for group in groups
    }
    events = []
    for pick in picks:
        given = Pick(pick.request_id, pick.group_id, pick.user_id, tuple(pick.selected_image_ids))
        feedback = believe(given, shown[pick.group_id], str(uuid.uuid4()), time.time_ns() // 1000)
        value = event_message(feedback).SerializeToString(deterministic=True)
        trace = f"00-{uuid.uuid4().hex}-{uuid.uuid4().hex[:16]}-00"
        name = FeedbackGiven.DESCRIPTOR.full_name
        events.append(Event(topics.FEEDBACK, feedback.user_id, feedback.event_id, name, value, trace))
    return events


def produce(producer: KafkaProducer, events: Sequence[Event], in_flight: int) -> None:
    """Sends all; returns when all are acknowledged."""
    room, failures = threading.Semaphore(in_flight), list[Exception]()
    for event in events:
        room.acquire()
        key, headers = event.key.encode(), headers_of(event)
        sent = producer.send(event.topic, value=event.value, key=key, headers=headers)
        sent.add_callback(lambda _: room.release())
        sent.add_errback(lambda error: (failures.append(error), room.release()))
    for _ in range(in_flight):
        room.acquire()
    if failures:
        raise failures[0]


def import_all(client: PerFusion, picks: Sequence[SubmitFeedbackRequest], in_flight: int) -> None:
    """Imports all; fails unless every one is OK."""
    count = 0
    for _, outcome in client.import_feedback(picks, window=in_flight):
        if not isinstance(outcome, SubmitFeedbackResponse):
            raise outcome
        count += 1
    if count != len(picks):
        raise RuntimeError(f"{len(picks)} picks were imported and {count} answered")


async def submit_all(layout: Layout, picks: Sequence[SubmitFeedbackRequest], callers: int) -> None:
    """Submits all, by so many callers at once."""
    options = [("grpc.use_local_subchannel_pool", 1)]  # a connection a channel
    channels = [open_aio_channel(layout, "feedback", options) for _ in range(CONNECTIONS)]
    ahead = iter(picks)

    async def call_on(stub: FeedbackServiceStub) -> None:
        for pick in ahead:
            await stub.SubmitFeedback(pick, timeout=CALL_TIMEOUT_S)

    stubs = [FeedbackServiceStub(channel) for channel in channels]
    await asyncio.gather(*(call_on(stubs[i % CONNECTIONS]) for i in range(callers)))
    for channel in channels:
        await channel.close()


def measured(way: str, count: int, pids: dict[str, int], work: Callable[[], None]) -> Measured:
    before = {name: process_s(pid) for name, pid in pids.items()}
    begin = time.perf_counter()
    work()
    took_s = time.perf_counter() - begin
    cpu = {name: round((process_s(pid) - before[name]) / count * 1e6, 1) for name, pid in pids.items()}
    return Measured(way, round(count / took_s, 1), cpu)


def measure(cluster: Cluster, count: int, repeats: int, groups: int, in_flight: int, callers: int) -> list[Measured]:
    """All ways of all repeats."""
    layout, draw = cluster.layout, random.Random(0)
    addresses = {name: layout.address(name) for name in ("user_embedding", "generation", "feedback")}
    found = []
    with PerFusion(**addresses, identity=layout.client, timeout_s=CALL_TIMEOUT_S) as client:
        shown = groups_of(client, groups)
        import_all(client, picks_of(shown, len(shown), draw), in_flight)
        for part in set(cluster.states()) - set(NEEDED):
            cluster.stop(part)
        pids = {name: pid for name in NEEDED if (pid := cluster.process(name).pid)} | {"client": os.getpid()}
        producer = KafkaProducer(**kafka_broker.access(layout, "feedback").config, **DELIVERY)
        produce(producer, events_of(shown, picks_of(shown, len(shown), draw)), in_flight)
        for _ in tqdm(range(repeats), desc="repeats"):
            events = events_of(shown, picks_of(shown, count, draw))
            found.append(measured("producer", count, pids, lambda: produce(producer, events, in_flight)))  # noqa: B023
            picks = picks_of(shown, count, draw)
            found.append(measured("import", count, pids, lambda: import_all(client, picks, in_flight)))  # noqa: B023
            few = picks_of(shown, count, draw)
            submitting = submit_all(layout, few, callers)
            found.append(measured("submit", count, pids, lambda: asyncio.run(submitting)))  # noqa: B023
        producer.close()
    return found


def summary(found: Sequence[Measured]) -> dict[str, dict[str, float]]:
    """By way: median rate, and the median, least and greatest ratio to the producer of the same repeat."""
    rates = {way: [each.picks_per_s for each in found if each.way == way] for way in WAYS}
    told = {}
    for way, of in rates.items():
        ratios = [one / bare for one, bare in zip(of, rates["producer"], strict=True)]
        told[way] = {
            "picks_per_s": statistics.median(of),
            "ratio": round(statistics.median(ratios), 3),
            "ratio_min": round(min(ratios), 3),
            "ratio_max": round(max(ratios), 3),
        }
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picks", type=int, default=10_000, help="of one way and repeat (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="(default: %(default)s)")
    parser.add_argument("--groups", type=int, default=200, help="(default: %(default)s)")
    parser.add_argument("--in-flight", type=int, default=1024, help="of producer and import (default: %(default)s)")
    parser.add_argument("--callers", type=int, default=128, help="of SubmitFeedback (default: %(default)s)")
    parser.add_argument("--port-offset", type=int, default=800, help="(default: %(default)s)")
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository", help="(default: %(default)s)")
    given = parser.parse_args()
    cluster = Cluster(Layout("picks", given.port_offset, given.repository.resolve()), say=print)
    try:
        cluster.up()
        found = measure(cluster, given.picks, given.repeats, given.groups, given.in_flight, given.callers)
    except ClusterError as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    finally:
        cluster.down()
    told = summary(found)
    OUT.mkdir(parents=True, exist_ok=True)
    asked = {name: getattr(given, name) for name in ("picks", "repeats", "groups", "in_flight", "callers")}
    report = {"asked": asked, "ways": told, "runs": [asdict(each) for each in found]}
    (OUT / "picks.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"{'':<10} {'picks a second':>15} {'of the producer':>19}   CPU µs a pick")
    for way, of in told.items():
        runs = [each.cpu_us for each in found if each.way == way]
        cpu = ", ".join(f"{name} {statistics.median(run[name] for run in runs):.0f}" for name in runs[0])
        ratio = f"{of['ratio']:.2f} [{of['ratio_min']:.2f}, {of['ratio_max']:.2f}]"
        print(f"{way:<10} {of['picks_per_s']:15.0f} {ratio:>19}   {cpu}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
