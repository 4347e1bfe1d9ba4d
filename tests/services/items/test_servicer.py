"""The items service over real gRPC and SQLite: an item's life by its API, and what it refuses, by the field."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from perfusion.v1 import items_service_pb2 as api
from perfusion.v1 import presale_pb2 as pb
from perfusion.v1.events_pb2 import SHOP_EVENT_KIND_IMPRESSION, OrderChanged, PresaleChanged, ShopEvent
from perfusion.v1.items_service_pb2_grpc import ItemsServiceStub

from contract import topics
from deploy.local.payments.provider import FakeProvider
from services.items.__main__ import build
from services.items.settings import Settings
from services.runtime.clock import now_us, timestamp
from tests.services.feedback.fakes import FakeKafka
from tests.services.items.market import BUYER, GROUP_ID, IMAGE_ID, MERCHANT, PRICE, MovedClock, OneGroup
from tests.services.running import LOCAL, running
from tests.services.running import failing as failing_somehow

VIEWER = "0123456789abcdef"


@dataclass
class Desk:
    """The running service, its client and its surroundings."""

    provider: FakeProvider
    kafka: FakeKafka
    clock: MovedClock
    stub: Any

    async def create(self, **changes: Any) -> pb.Presale:
        request = api.CreatePresaleRequest(request_id=str(uuid4()), user_id=MERCHANT, terms=terms(**changes))
        answer = await self.stub.CreatePresale(request)
        return answer.presale

    async def on_sale(self, **changes: Any) -> pb.Presale:
        draft = await self.create(**changes)
        request = api.OpenPresaleRequest(presale_id=draft.presale_id, user_id=MERCHANT, etag=draft.etag)
        return (await self.stub.OpenPresale(request)).presale

    async def order(self, presale: pb.Presale, **changes: Any) -> pb.Order:
        answer = await self.stub.PlaceOrder(order_of(presale.presale_id, **changes))
        return answer.order

    async def state(self, presale: pb.Presale) -> pb.Presale:
        return (await self.stub.GetPresale(api.GetPresaleRequest(presale_id=presale.presale_id))).presale

    async def until(self, presale: pb.Presale, *states: str) -> pb.Presale:
        """The background takes it there."""
        async with asyncio.timeout(60):
            while pb.PresaleState.Name((found := await self.state(presale)).state) not in states:
                await asyncio.sleep(0.05)
        return found


def terms(seconds: float = 3600, **changes: Any) -> pb.PresaleTerms:
    """Good terms, with the changes a test is about."""
    good = {
        "group_id": GROUP_ID,
        "image_id": IMAGE_ID,
        "title": "Linen dress",
        "description": "Ankle length.",
        "price": pb.Money(currency="EUR", minor_units=PRICE),
        "min_units": 2,
        "max_units": 3,
        "close_time": timestamp(now_us() + round(seconds * 1e6)),
        "ships_within_days": 30,
        "decide_within_hours": 0,
    }
    return pb.PresaleTerms(**good | changes)


def order_of(presale_id: str, **changes: Any) -> api.PlaceOrderRequest:
    """A good order, with the changes a test is about."""
    good = {
        "request_id": str(uuid4()),
        "presale_id": presale_id,
        "buyer_id": BUYER,
        "units": 1,
        "payment_method": "pm_card_visa",
        "encounter": api.Encounter(surface="shop", position=1, viewer_hash=VIEWER),
    }
    return api.PlaceOrderRequest(**good | changes)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Desk]:
    provider, kafka = FakeProvider(), FakeKafka()
    settings = Settings(
        **{
            "database_url": f"sqlite:///{folder}/items.sqlite",
            "outbox_interval_s": 0.05,
            "settling_interval_s": 0.05,
            **LOCAL,
        }
    )
    clock = MovedClock()
    async with running(build(settings, OneGroup(), provider, kafka, clock)) as channel:
        yield Desk(provider, kafka, clock, ItemsServiceStub(channel))


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with opened(tmp_path) as desk:
        yield desk


@asynccontextmanager
async def failing(code: grpc.StatusCode, field: str = "") -> AsyncIterator[None]:
    """The call inside fails so; an invalid one, in this field alone; otherwise it is about that field."""
    async with failing_somehow() as failure:
        yield
    assert failure.code is code, failure.message
    if field and code is grpc.StatusCode.INVALID_ARGUMENT:
        assert list(failure.fields) == [field]
    assert failure.message.startswith(field)


async def test_an_item_that_enough_buyers_order_is_made_and_one_that_too_few_order_is_refunded(desk: Desk) -> None:
    made, missed = await desk.on_sale(), await desk.on_sale()
    orders = [await desk.order(made), await desk.order(made)]
    lonely = await desk.order(missed)
    assert {order.state for order in (*orders, lonely)} == {pb.ORDER_STATE_SECURED}
    desk.clock.ahead_us = 3601 * 10**6
    made = await desk.until(made, "PRESALE_STATE_PRODUCING")
    missed = await desk.until(missed, "PRESALE_STATE_REFUNDED")
    assert (made.decision, made.decided_by) == (pb.DECISION_PRODUCE, "threshold")
    lonely = (await desk.stub.GetOrder(api.GetOrderRequest(order_id=lonely.order_id, buyer_id=BUYER))).order
    assert (lonely.state, lonely.cause) == (pb.ORDER_STATE_RELEASED, "threshold")
    async with asyncio.timeout(60):
        while (await desk.state(made)).settlement.committed < 2:
            await asyncio.sleep(0.05)
    for order in orders:
        request = api.ShipOrderRequest(order_id=order.order_id, user_id=MERCHANT, tracking="post 1")
        shipped = (await desk.stub.ShipOrder(request)).order
        assert shipped.payment.charged_minor_units == PRICE and shipped.HasField("return_by_time")
    await desk.until(made, "PRESALE_STATE_SHIPPED")
    listed = await desk.stub.ListChanges(api.ListChangesRequest(presale_id=made.presale_id, user_id=MERCHANT))
    assert [change.to_state for change in listed.changes if not change.order_id] == [
        "SHIPPED", "PRODUCING", "SETTLING", "CLOSING", "OPEN", "DRAFT"
    ]  # fmt: skip


async def test_kafka_hears_of_every_change_in_order_and_of_no_buyers_way_to_their_bank(desk: Desk) -> None:
    presale = await desk.on_sale()
    order = await desk.order(presale, payment_method="pm_card_authenticationRequired")
    assert order.payment.action_url
    await desk.stub.CancelOrder(api.CancelOrderRequest(order_id=order.order_id, buyer_id=BUYER))
    secured = await desk.order(presale)
    async with asyncio.timeout(60):
        while len(desk.kafka.taken) < 8:
            await asyncio.sleep(0.05)
    assert {event.key for event in desk.kafka.taken} == {MERCHANT}
    told = [OrderChanged.FromString(e.value) for e in desk.kafka.taken if e.topic == topics.ORDERS]
    states = [pb.OrderState.Name(each.order.state) for each in told if each.order.order_id == order.order_id]
    assert states == ["ORDER_STATE_PENDING_PAYMENT", "ORDER_STATE_CANCELLING", "ORDER_STATE_RELEASED"]
    assert not any(each.order.payment.action_url for each in told) and {each.image_id for each in told} == {IMAGE_ID}
    sales = [PresaleChanged.FromString(e.value) for e in desk.kafka.taken if e.topic == topics.PRESALES]
    assert [pb.PresaleState.Name(each.presale.state) for each in sales] == ["PRESALE_STATE_DRAFT", "PRESALE_STATE_OPEN"]
    [met] = [ShopEvent.FromString(e.value) for e in desk.kafka.taken if e.topic == topics.SHOP]
    assert (met.presale_id, met.viewer_hash, met.units) == (secured.presale_id, VIEWER, 1)
    assert BUYER not in str(met)


async def test_the_same_request_makes_one_presale_and_another_under_its_id_is_refused(desk: Desk) -> None:
    request = api.CreatePresaleRequest(request_id=str(uuid4()), user_id=MERCHANT, terms=terms())
    first, again = [(await desk.stub.CreatePresale(request)).presale for _ in range(2)]
    assert first == again
    request.terms.title = "Silk dress"
    async with failing(grpc.StatusCode.ALREADY_EXISTS):
        await desk.stub.CreatePresale(request)
    listed = await desk.stub.ListPresales(api.ListPresalesRequest(user_id=MERCHANT))
    assert list(listed.presales) == [first]


async def test_lists_go_by_pages(desk: Desk) -> None:
    made = [await desk.create() for _ in range(3)]
    seen, token = [], ""
    for _ in range(2):
        page = await desk.stub.ListPresales(api.ListPresalesRequest(user_id=MERCHANT, page_size=2, page_token=token))
        seen += page.presales
        token = page.next_page_token
    assert seen == made[::-1] and not token


async def test_a_posted_event_has_the_provider_asked(desk: Desk) -> None:
    presale = await desk.on_sale()
    order = await desk.order(presale, payment_method="pm_card_authenticationRequired")
    [entry] = desk.provider.bank.books.entries.values()
    desk.provider.bank.act(entry.payment.payment_id, True)
    for payload, signature in desk.provider.posts():
        await desk.stub.ReceivePaymentEvent(api.ReceivePaymentEventRequest(payload=payload, signature=signature))
    request = api.GetOrderRequest(order_id=order.order_id, buyer_id=BUYER)
    async with asyncio.timeout(60):
        while (await desk.stub.GetOrder(request)).order.state != pb.ORDER_STATE_SECURED:
            await asyncio.sleep(0.05)
    async with failing(grpc.StatusCode.PERMISSION_DENIED):
        await desk.stub.ReceivePaymentEvent(api.ReceivePaymentEventRequest(payload=payload, signature="0" * 64))


async def test_what_the_shop_saw_is_on_kafka_when_it_is_answered(desk: Desk) -> None:
    seen = [shop_event() for _ in range(3)]
    await desk.stub.RecordShopEvents(api.RecordShopEventsRequest(events=seen))
    assert [ShopEvent.FromString(event.value) for event in desk.kafka.taken] == seen
    assert [event.event_id for event in desk.kafka.taken] == [event.event_id for event in seen]
    desk.kafka.down = True
    async with failing(grpc.StatusCode.UNAVAILABLE):
        await desk.stub.RecordShopEvents(api.RecordShopEventsRequest(events=seen))


def shop_event(**changes: Any) -> ShopEvent:
    good = {
        "event_id": str(uuid4()),
        "kind": SHOP_EVENT_KIND_IMPRESSION,
        "presale_id": str(uuid4()),
        "user_id": MERCHANT,
        "group_id": GROUP_ID,
        "image_id": IMAGE_ID,
        "surface": "shop",
        "position": 3,
        "viewer_hash": VIEWER,
        "event_time": timestamp(now_us()),
        "item_create_time": timestamp(now_us()),
    }
    return ShopEvent(**good | changes)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("terms.group_id", {"group_id": "x"}),
        ("terms.image_id", {"image_id": ""}),
        ("terms.title", {"title": ""}),
        ("terms.title", {"title": "x" * 121}),
        ("terms.title", {"title": "a\0b"}),
        ("terms.description", {"description": "x" * 4001}),
        ("terms.price.currency", {"price": pb.Money(currency="eur", minor_units=1)}),
        ("terms.price.minor_units", {"price": pb.Money(currency="EUR", minor_units=0)}),
        ("terms.price.minor_units", {"price": pb.Money(currency="EUR", minor_units=2**62)}),
        ("terms.min_units", {"min_units": 0}),
        ("terms.max_units", {"min_units": 5, "max_units": 4}),
        ("terms.max_units", {"max_units": 1_000_001}),
        ("terms.close_time", {"close_time": None}),
        ("terms.close_time", {"close_time": Timestamp(seconds=-1)}),
        ("terms.close_time", {"close_time": Timestamp(seconds=1, nanos=-5)}),
        ("terms.ships_within_days", {"ships_within_days": 0}),
        ("terms.decide_within_hours", {"decide_within_hours": 721}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_wrong_terms_are_named(desk: Desk, field: str, changes: dict[str, Any]) -> None:
    async with failing(grpc.StatusCode.INVALID_ARGUMENT, field):
        await desk.create(**changes)


async def test_a_sale_that_would_close_in_the_past_or_too_far_ahead_is_not_opened(desk: Desk) -> None:
    for seconds in (-5, 181 * 86400):
        draft = await desk.create(seconds=seconds)
        async with failing(grpc.StatusCode.FAILED_PRECONDITION):
            await desk.stub.OpenPresale(api.OpenPresaleRequest(presale_id=draft.presale_id, user_id=MERCHANT))


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("request_id", {"request_id": "1"}),
        ("buyer_id", {"buyer_id": ""}),
        ("units", {"units": 0}),
        ("units", {"units": 1001}),
        ("payment_method", {"payment_method": ""}),
        ("ship_to.name", {"ship_to": pb.Recipient(address="x", email="a@b")}),
        ("ship_to.address", {"ship_to": pb.Recipient(name="x", address="y" * 1001, email="a@b")}),
        ("ship_to.email", {"ship_to": pb.Recipient(name="x", address="y", email="a@b@c")}),
        ("ship_to.email", {"ship_to": pb.Recipient(name="x", address="y", email="a@b\n")}),
        ("encounter.surface", {"encounter": api.Encounter(surface="Shop!", viewer_hash=VIEWER)}),
        ("encounter.viewer_hash", {"encounter": api.Encounter(surface="shop", viewer_hash="short")}),
        ("encounter.position", {"encounter": api.Encounter(surface="shop", position=-1, viewer_hash=VIEWER)}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_wrong_order_is_named(desk: Desk, field: str, changes: dict[str, Any]) -> None:
    async with failing(grpc.StatusCode.INVALID_ARGUMENT, field):
        await desk.stub.PlaceOrder(order_of(str(uuid4()), **changes))


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("events[1].event_id", {"event_id": ""}),
        ("events[1].kind", {"kind": 3}),
        ("events[1].units", {"units": 1}),
        ("events[1].event_time", {"event_time": None}),
        ("events[1].item_create_time", {"item_create_time": None}),
        ("events[1].user_id", {"user_id": ""}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_wrong_event_of_the_shop_is_named_and_none_is_recorded(
    desk: Desk, field: str, changes: dict[str, Any]
) -> None:
    events = [shop_event(), shop_event(**changes)]
    async with failing(grpc.StatusCode.INVALID_ARGUMENT, field):
        await desk.stub.RecordShopEvents(api.RecordShopEventsRequest(events=events))
    assert desk.kafka.taken == []


async def test_a_draft_is_not_there_for_buyers_and_what_is_not_there_is_not_found(desk: Desk) -> None:
    draft, nothing = await desk.create(), str(uuid4())
    async with failing(grpc.StatusCode.FAILED_PRECONDITION):
        await desk.order(draft)
    calls = [
        desk.stub.GetPresale(api.GetPresaleRequest(presale_id=nothing)),
        desk.stub.OpenPresale(api.OpenPresaleRequest(presale_id=nothing, user_id=MERCHANT)),
        desk.stub.CancelPresale(api.CancelPresaleRequest(presale_id=nothing, user_id=MERCHANT)),
        desk.stub.FailProduction(api.FailProductionRequest(presale_id=nothing, user_id=MERCHANT)),
        desk.stub.ListOrders(api.ListOrdersRequest(presale_id=nothing, user_id=MERCHANT)),
        desk.stub.ListChanges(api.ListChangesRequest(presale_id=nothing, user_id=MERCHANT)),
        desk.stub.PlaceOrder(order_of(nothing)),
        desk.stub.GetOrder(api.GetOrderRequest(order_id=nothing, buyer_id=BUYER)),
        desk.stub.CancelOrder(api.CancelOrderRequest(order_id=nothing, buyer_id=BUYER)),
        desk.stub.ShipOrder(api.ShipOrderRequest(order_id=nothing, user_id=MERCHANT)),
        desk.stub.AnswerDelay(api.AnswerDelayRequest(order_id=nothing, buyer_id=BUYER)),
    ]
    for call in calls:
        async with failing(grpc.StatusCode.NOT_FOUND):
            await call
    async with failing(grpc.StatusCode.NOT_FOUND, "terms.image_id"):
        await desk.create(image_id=str(uuid4()))
