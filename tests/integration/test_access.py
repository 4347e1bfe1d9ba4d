"""Whom the running platform lets in: by no method does a merchant's client read, feed or learn what is another's."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from perfusion.client import NotFound, PerFusion, PermissionDenied, Unauthenticated, Unavailable
from perfusion.v1 import feedback_service_pb2 as feedback_pb
from perfusion.v1 import items_service_pb2 as items_pb
from perfusion.v1 import presale_pb2 as presale_pb
from perfusion.v1.events_pb2 import ShopEvent
from perfusion.v1.group_pb2 import Group
from perfusion.v1.items_service_pb2_grpc import ItemsServiceStub
from perfusion.v1.user_embedding_service_pb2 import BatchGetUserEmbeddingsRequest, GetUserEmbeddingRequest
from perfusion.v1.user_embedding_service_pb2_grpc import UserEmbeddingServiceStub

from deploy.local.authority import Authority
from deploy.local.clients import Clients, put_on_sale
from deploy.local.cluster import Cluster
from deploy.local.layout import Layout
from deploy.local.parts import SERVICES, metrics
from tests.integration.client import CALL_TIMEOUT_S, PROMPT, generate, new_id, new_user, request

pytestmark = pytest.mark.cluster


@pytest.fixture
def theirs(clients: Clients, cluster: Cluster) -> Group:
    """A group of somebody else's."""
    return generate(clients, request(new_user(clients, cluster.layout))).group


@pytest.fixture
def mine(clients: Clients, cluster: Cluster) -> str:
    return new_user(clients, cluster.layout)


def credentials(layout: Layout, token: str) -> grpc.ChannelCredentials:
    """The local client's certificate with a token of one's choice."""
    authority, key, certificate = ((layout.client / name).read_bytes() for name in ("ca.crt", "tls.key", "tls.crt"))
    return grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(authority, key, certificate), grpc.access_token_call_credentials(token)
    )


@pytest.fixture
def client(cluster: Cluster, mine: str) -> Iterator[PerFusion]:
    """Acts for `mine` alone."""
    layout = cluster.layout
    token = Authority(layout.home).token([mine], 1)
    addresses = {name: layout.address(name) for name in SERVICES if name != "items"}  # which has its stub alone
    with PerFusion(**addresses, credentials=credentials(layout, token), timeout_s=CALL_TIMEOUT_S) as connected:
        yield connected


def refused(layout: Layout) -> float:
    """Calls that all services have refused for their caller."""
    shown = [sample for name in SERVICES for family in metrics(layout.metrics_port(name)) for sample in family.samples]
    handled = [each for each in shown if each.name == "perfusion_rpc_handled_total"]
    return sum(each.value for each in handled if each.labels["code"] == "PERMISSION_DENIED")


def test_another_merchant_is_refused_by_every_method_and_counted(
    cluster: Cluster, client: PerFusion, mine: str, theirs: Group
) -> None:
    other, before = theirs.user_id, refused(cluster.layout)
    picture = theirs.candidates[0].png
    users = UserEmbeddingServiceStub(client._channels[cluster.layout.address("user_embedding")])
    calls = [
        lambda: client.put_profile(other, {}),
        lambda: client.get_profile(other),
        lambda: client.generate(other, PROMPT).group(),
        lambda: list(client.list_groups(other)),
        lambda: client.suggest_phrases(other, PROMPT),
        lambda: client.rank(other, PROMPT, [picture]),
        lambda: client.submit_feedback(theirs, []),
        lambda: client.get_feedback(theirs),
        lambda: list(client.list_feedback(other)),
    ]
    for call in calls:
        with pytest.raises(PermissionDenied, match="user_id: "):
            call()
    for stub, asked in (
        (users.GetUserEmbedding, GetUserEmbeddingRequest(user_id=other)),
        (users.BatchGetUserEmbeddings, BatchGetUserEmbeddingsRequest(user_ids=[mine, other])),
    ):
        with pytest.raises(grpc.RpcError) as failure:
            stub(asked, timeout=CALL_TIMEOUT_S)
        assert failure.value.code() == grpc.StatusCode.PERMISSION_DENIED
    assert refused(cluster.layout) == before + len(calls) + 2

    with pytest.raises(NotFound, match=f"there is no group {theirs.group_id}"):  # as one that never was
        client.get_group(theirs.group_id)
    pick = feedback_pb.SubmitFeedbackRequest(request_id=new_id(), group_id=theirs.group_id, user_id=other)
    assert [type(outcome) for _, outcome in client.import_feedback([pick])] == [PermissionDenied]

    own = client.generate(mine, PROMPT, num_candidates=1, num_steps=2).group()
    assert client.get_group(own.group_id).user_id == mine
    client.submit_feedback(own, [own.candidates[0].image_id])


def test_another_merchants_items_are_refused_by_every_method(
    cluster: Cluster, clients: Clients, mine: str, theirs: Group
) -> None:
    other = theirs.user_id
    terms = presale_pb.PresaleTerms(
        group_id=theirs.group_id, image_id=theirs.candidates[0].image_id, title="Theirs",
        price=presale_pb.Money(currency="EUR", minor_units=100), min_units=1, max_units=2, ships_within_days=1,
        close_time=Timestamp(seconds=int(time.time()) + 3600),
    )  # fmt: skip
    sale = put_on_sale(clients.items, other, terms)
    wanted = items_pb.PlaceOrderRequest(
        request_id=new_id(), presale_id=sale.presale_id, buyer_id="buyer", units=1, payment_method="pm_card_visa"
    )
    order = clients.items.PlaceOrder(wanted, timeout=CALL_TIMEOUT_S).order
    of_order = {"order_id": order.order_id, "buyer_id": "buyer"}
    by_name = {
        "PlaceOrder": items_pb.PlaceOrderRequest(
            request_id=new_id(), presale_id=sale.presale_id, buyer_id="me", units=1, payment_method="pm_card_visa"
        ),
        "GetOrder": items_pb.GetOrderRequest(**of_order),
        "CancelOrder": items_pb.CancelOrderRequest(**of_order),
        "AnswerDelay": items_pb.AnswerDelayRequest(**of_order),
        "RecordShopEvents": items_pb.RecordShopEventsRequest(events=[ShopEvent(user_id=other)]),
        "ReceivePaymentEvent": items_pb.ReceivePaymentEventRequest(payload=b"{}", signature="t=1,v1=0"),
    }
    methods = items_pb.DESCRIPTOR.services_by_name["ItemsService"].methods
    token = credentials(cluster.layout, Authority(cluster.layout.home).token([mine], 1))
    with grpc.secure_channel(cluster.layout.address("items"), token) as channel:
        stub = ItemsServiceStub(channel)
        for method in methods:
            if method.name == "GetPresale":  # which everybody may read, once it is open
                continue
            asked = by_name.get(method.name) or getattr(items_pb, method.input_type.name)(user_id=other)
            with pytest.raises(grpc.RpcError) as failure:
                getattr(stub, method.name)(asked, timeout=CALL_TIMEOUT_S)
            assert failure.value.code() == grpc.StatusCode.PERMISSION_DENIED, method.name
    found = clients.items.GetOrder(items_pb.GetOrderRequest(**of_order), timeout=CALL_TIMEOUT_S).order
    assert found.state == presale_pb.ORDER_STATE_SECURED


def test_who_cannot_say_who_calls_is_not_let_in(cluster: Cluster, mine: str) -> None:
    layout = cluster.layout
    ended = credentials(layout, Authority(layout.home).token([mine], -1))
    with PerFusion(layout.address("generation"), credentials=ended) as late, pytest.raises(Unauthenticated):
        late.suggest_phrases(mine, PROMPT)
    with PerFusion(layout.address("generation"), timeout_s=1.0) as clear, pytest.raises(Unavailable):
        clear.suggest_phrases(mine, PROMPT)


def test_certificates_are_renewed_under_rounds(clients: Clients, cluster: Cluster, mine: str) -> None:
    """Of the services and of their calls to each other; none of the rounds fails."""
    authority, ended = Authority(cluster.layout.home), time.monotonic() + 4.0

    def play(_: int) -> int:
        count = 0
        while time.monotonic() < ended:
            generate(clients, request(mine, num_candidates=1, num_steps=2))
            count += 1
        return count

    with ThreadPoolExecutor(2) as threads:
        playing = threads.map(play, range(2))
        while time.monotonic() < ended:
            authority.prepare(SERVICES, anew=True)
            time.sleep(0.7)
        assert sum(playing) > 2
