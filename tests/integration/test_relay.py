"""Events owed when services die: two replicas on one database, a Kafka that stands still, no retry of a client."""

import os
import signal
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace

import grpc
import pytest
from perfusion.v1.events_pb2 import FeedbackGiven, GroupGenerated
from perfusion.v1.feedback_service_pb2 import GetFeedbackRequest, ListFeedbackRequest
from perfusion.v1.generation_service_pb2 import ListGroupsRequest

from contract import topics
from deploy.local.clients import Clients, M, Record, connect, read_events
from deploy.local.cluster import Cluster
from deploy.local.kafka_broker import access
from deploy.local.layout import ROOT, Layout
from deploy.local.parts import is_serving, part, service_environment
from deploy.local.process import Process
from services.runtime.events import Event, KafkaEvents, Refused
from tests.integration.client import CALL_TIMEOUT_S, generate, new_id, new_user, pick, request, wait_until

REPLICATED = ("generation", "feedback")
PORTS_APART = 5  # a cluster's ports end in 1 to 4
STORED_WITHIN_S = 60.0
RELAYED_WITHIN_S = 60.0  # a lease of 12 s, pauses up to 10 s, and what a loaded machine adds


@pytest.fixture
def second(cluster: Cluster) -> Iterator[Clients]:
    """Clients of second replicas of the services that publish, which stop at the end."""
    cluster.up()
    layout = cluster.layout
    beside = replace(layout, port_offset=layout.port_offset + PORTS_APART)
    replicas = [_start(name, layout, beside) for name in REPLICATED]
    try:
        for name in REPLICATED:
            wait_until(lambda name=name: is_serving(beside, name), STORED_WITHIN_S)
        with connect(beside) as clients:
            yield clients
    finally:
        for replica in replicas:
            replica.stop(part("feedback").drain_s)
        cluster.up()


def _start(name: str, layout: Layout, beside: Layout) -> Process:
    ports = {
        "PERFUSION_PORT": str(beside.port(name)),
        "PERFUSION_METRICS_PORT": str(beside.metrics_port(name)),
    }
    process = Process(f"{name}-2", layout.pids / f"{name}-2.pid", layout.logs / f"{name}-2.log")
    process.kill()  # of an interrupted session
    process.start(part(name).command(layout), service_environment(layout, name) | ports, ROOT)
    return process


@contextmanager
def standing_still(cluster: Cluster, name: str) -> Iterator[None]:
    """The part's process is stopped: it keeps its connections and answers nothing."""
    pid = cluster.process(name).pid
    assert pid is not None
    os.killpg(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.killpg(pid, signal.SIGCONT)


def owed(layout: Layout, service: str, table: str, user_id: str) -> list[str]:
    """Ids of the events in a service's outbox, in their order."""
    with closing(sqlite3.connect(f"file:{layout.home / service}.sqlite?mode=ro", uri=True)) as database:
        query = f'SELECT event_id FROM {table} WHERE "key" = ? ORDER BY sequence'
        return [event_id for (event_id,) in database.execute(query, [user_id])]


def in_kafka(layout: Layout, topic: str, kind: type[M], user_id: str) -> dict[str, Record[M]]:
    """Events by id, in the order in which each came first; a repeat must say the same."""
    first: dict[str, Record[M]] = {}
    for record in read_events(layout, topic, kind, user_id):
        known = first.setdefault(record.headers["event-id"], record)
        assert record.message == known.message
    return first


async def test_an_event_too_large_for_its_topic_is_refused_and_the_next_one_is_taken(cluster: Cluster) -> None:
    cluster.up()
    events = KafkaEvents(access(cluster.layout, "generation"), (topics.GROUPS,), timeout_s=30.0)
    key, kind = f"merchant-{new_id()}", "perfusion.v1.GroupGenerated"
    small = GroupGenerated(group_id=new_id()).SerializeToString()
    with pytest.raises(Refused, match="."):
        await events.publish(Event(topics.GROUPS, key, new_id(), kind, bytes(2 * 2**20), None))
    event_id = new_id()
    await events.publish(Event(topics.GROUPS, key, event_id, kind, small, None))
    await events.close()
    assert list(in_kafka(cluster.layout, topics.GROUPS, GroupGenerated, key)) == [event_id]


def test_what_is_owed_reaches_kafka_in_order_though_its_service_was_killed(
    clients: Clients, second: Clients, cluster: Cluster
) -> None:
    layout, user_id = cluster.layout, new_user(clients, cluster.layout)
    shown = generate(clients, request(user_id)).group
    corrected = pick(second, shown, selected_image_ids=[shown.candidates[1].image_id])

    def groups_owed() -> list[str]:
        return owed(layout, "generation", "groups_outbox", user_id)

    def picks_owed() -> list[str]:
        return owed(layout, "feedback", "feedback_outbox", user_id)

    with ThreadPoolExecutor(4) as calls:
        with standing_still(cluster, "kafka"):
            begun = [calls.submit(generate, clients, request(user_id))]
            begun.append(calls.submit(clients.feedback.SubmitFeedback, pick(clients, shown), timeout=CALL_TIMEOUT_S))
            wait_until(lambda: len(groups_owed()) == len(picks_owed()) == 1, STORED_WITHIN_S)
            begun.append(calls.submit(generate, second, request(user_id)))
            begun.append(calls.submit(second.feedback.SubmitFeedback, corrected, timeout=CALL_TIMEOUT_S))
            wait_until(lambda: len(groups_owed()) == len(picks_owed()) == 2, STORED_WITHIN_S)
            groups, picks = groups_owed(), picks_owed()
            for name in REPLICATED:
                cluster.kill(name)
        failures = [call.exception() for call in begun]
    assert all(isinstance(each, grpc.RpcError) for each in failures[:2]), "their services were killed"

    wait_until(lambda: groups_owed() == [] and picks_owed() == [], RELAYED_WITHIN_S)
    events = in_kafka(layout, topics.GROUPS, GroupGenerated, user_id)
    assert list(events)[1:] == groups
    given = in_kafka(layout, topics.FEEDBACK, FeedbackGiven, user_id)
    assert list(given) == picks
    sequences = [event.message.sequence for event in given.values()]
    assert sequences == sorted(sequences)

    cluster.up()
    for replica in (clients, second):
        listed = replica.generation.ListGroups(ListGroupsRequest(user_id=user_id), timeout=CALL_TIMEOUT_S).groups
        assert [group.group_id for group in listed] == [event.message.group_id for event in events.values()][::-1]
        asked = GetFeedbackRequest(group_id=shown.group_id, user_id=user_id)
        assert replica.feedback.GetFeedback(asked, timeout=CALL_TIMEOUT_S).feedback.event_id == picks[1]
    everything = ListFeedbackRequest(user_id=user_id, show_superseded=True)
    read = clients.feedback.ListFeedback(everything, timeout=CALL_TIMEOUT_S).feedback
    assert [(each.event_id, each.superseded) for each in read] == [(picks[1], False), (picks[0], True)]
