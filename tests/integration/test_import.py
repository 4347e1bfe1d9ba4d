"""Imports on the real parts: each pick answered, and nothing lost of what a killed service had acknowledged."""

from collections.abc import Iterator

import pytest
from perfusion.client import InvalidArgument, NotFound, PerFusion, RequestIdReused
from perfusion.v1.events_pb2 import FeedbackGiven
from perfusion.v1.feedback_service_pb2 import ListFeedbackRequest, SubmitFeedbackRequest, SubmitFeedbackResponse
from perfusion.v1.group_pb2 import Group

from contract import topics
from deploy.local.clients import Clients, read_events
from deploy.local.cluster import Cluster
from tests.integration.client import CALL_TIMEOUT_S, generate, new_id, new_user, pick, request

PICKS = 400
KILLED_AFTER = 60


@pytest.fixture
def shown(clients: Clients, cluster: Cluster) -> Group:
    """A group of four pictures: sixteen different picks."""
    cluster.up()
    return generate(clients, request(new_user(clients, cluster.layout), num_candidates=4)).group


@pytest.fixture
def client(cluster: Cluster) -> Iterator[PerFusion]:
    layout = cluster.layout
    with PerFusion(feedback=layout.address("feedback"), identity=layout.client, timeout_s=CALL_TIMEOUT_S) as connected:
        yield connected


def picks_of(clients: Clients, group: Group, count: int) -> list[SubmitFeedbackRequest]:
    ids = [candidate.image_id for candidate in group.candidates]
    chosen = [[image_id for bit, image_id in enumerate(ids) if n >> bit & 1] for n in range(count)]
    return [pick(clients, group, selected_image_ids=each) for each in chosen]


def published(cluster: Cluster, group: Group) -> dict[str, list[str]]:
    """Request id → ids of its events, as often as they lie in Kafka, in the order in which each came first."""
    found: dict[str, list[str]] = {}
    for record in read_events(cluster.layout, topics.FEEDBACK, FeedbackGiven, group.user_id):
        found.setdefault(record.message.request_id, []).append(record.headers["event-id"])
    return found


def test_each_pick_of_an_import_is_answered_and_the_good_ones_are_in_kafka(
    clients: Clients, cluster: Cluster, client: PerFusion, shown: Group
) -> None:
    good = picks_of(clients, shown, 30)
    submitted = clients.feedback.SubmitFeedback(good[0], timeout=CALL_TIMEOUT_S)
    contrary = SubmitFeedbackRequest()
    contrary.CopyFrom(good[2])
    contrary.selected_image_ids[:] = []
    bad = [pick(clients, shown, selected_image_ids=[new_id()]), pick(clients, shown, group_id=new_id()), contrary]
    told = list(client.import_feedback([*good, *bad, good[1]]))
    assert [asked for asked, _ in told] == [*good, *bad, good[1]]
    outcomes = [outcome for _, outcome in told]
    assert outcomes[0] == submitted and outcomes[-1] == outcomes[1]
    assert [type(each) for each in outcomes[30:-1]] == [InvalidArgument, NotFound, RequestIdReused]
    assert published(cluster, shown) == {
        asked.request_id: [outcome.event_id]
        for asked, outcome in told[:30]
        if isinstance(outcome, SubmitFeedbackResponse)
    }


def test_an_import_goes_on_after_its_service_was_killed_and_loses_nothing(
    clients: Clients, cluster: Cluster, client: PerFusion, shown: Group
) -> None:
    asked = picks_of(clients, shown, PICKS)
    acknowledged: dict[str, str] = {}
    for sent, outcome in client.import_feedback(asked, window=50):
        assert isinstance(outcome, SubmitFeedbackResponse), outcome
        acknowledged[sent.request_id] = outcome.event_id
        if len(acknowledged) == KILLED_AFTER:
            cluster.kill("feedback")
            cluster.up(["feedback"])
    assert list(acknowledged) == [each.request_id for each in asked]
    # Whoever died between Kafka's acknowledgement and its note of it sends the same event again, under the same id.
    events = published(cluster, shown)
    assert {request_id: set(ids) for request_id, ids in events.items()} == {
        request_id: {event_id} for request_id, event_id in acknowledged.items()
    }
    assert list(events) == list(acknowledged)  # in the order of the import
    counting = clients.feedback.ListFeedback(ListFeedbackRequest(user_id=shown.user_id), timeout=CALL_TIMEOUT_S)
    assert [each.request_id for each in counting.feedback] == [asked[-1].request_id]
    told = [outcome for _, outcome in client.import_feedback(asked)]
    assert [each.event_id for each in told if isinstance(each, SubmitFeedbackResponse)] == list(acknowledged.values())
