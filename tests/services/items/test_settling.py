"""The life of a presale and its orders, on both databases, with the provider's own books beside ours."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from unittest.mock import Mock
from uuid import uuid4

import pytest
import pytest_asyncio
from perfusion.v1 import items_service_pb2 as api
from perfusion.v1 import presale_pb2 as pb
from sqlalchemy import select

from deploy.local.payments.bank import Fault
from services.items.adapters.tables import METADATA, recipients
from services.items.orders import Order, Recipient
from services.items.payments import Payment
from services.items.ports import Audit
from services.items.presales import DAY_US, HOUR_US, Decision, Mode, State
from services.items.servicer import ItemsServicer
from services.runtime.errors import AlreadyExists, FailedPrecondition, InvalidArgument, PermissionDenied
from services.runtime.pages import Page
from tests.services.items.market import BUYER, MERCHANT, MINUTE_US, PRICE, Market
from tests.services.running import database_threads_ended


@pytest_asyncio.fixture
async def market(url: str) -> AsyncIterator[Market]:
    market = Market(url)
    yield market
    await market.database.close()
    await database_threads_ended()


async def states(market: Market, presale_id: str) -> list[str]:
    return [order.state.value for order in await market.orders_of(await market.books.read(presale_id))]


@pytest.mark.parametrize(("units", "ends"), [(1, State.REFUNDED), (2, State.PRODUCING), (3, State.PRODUCING)])
@pytest.mark.parametrize("hours_on_sale", [1, 24 * 30], ids=["held", "charged"])
async def test_below_the_minimum_is_refunded_and_from_it_on_is_made(
    market: Market, units: int, ends: State, hours_on_sale: int
) -> None:
    presale = await market.on_sale(close_us=market.now_us() + hours_on_sale * HOUR_US)
    assert presale.mode is (Mode.HOLD if hours_on_sale == 1 else Mode.CHARGE)
    for _ in range(units):
        assert (await market.order(presale)).state == "secured"
    presale = await market.close(presale)
    assert presale.state is ends
    await market.check(presale.presale_id)
    found = await market.orders_of(presale)
    if ends is State.PRODUCING:
        assert all(order.state == "committed" and order.kept == PRICE for order in found)
        for order in found:
            await market.selling.ship(order.order_id, MERCHANT, "post 1")
        await market.settle()
        assert (await market.books.read(presale.presale_id)).state is State.SHIPPED
    else:
        assert {order.state for order in found} == {"released" if hours_on_sale == 1 else "refunded"}
    await market.check_ended(presale.presale_id)


async def test_the_merchant_may_make_what_stayed_below_its_minimum_and_decides_once(market: Market) -> None:
    presale = await market.on_sale(decide_within_hours=24)
    await market.order(presale)
    presale = await market.close(presale)
    assert presale.state is State.SETTLING and presale.decision is Decision.NONE
    made = await market.selling.decide(presale.presale_id, MERCHANT, "", Decision.PRODUCE, "a friend of the house")
    again = await market.selling.decide(presale.presale_id, MERCHANT, "", Decision.PRODUCE, "")
    assert made == again and made.state is State.PRODUCING
    with pytest.raises(FailedPrecondition):
        await market.selling.decide(presale.presale_id, MERCHANT, "", Decision.REFUND, "")
    await market.settle()
    assert await states(market, presale.presale_id) == ["committed"]


async def test_without_a_decision_the_buyers_are_refunded_when_its_time_is_over(market: Market) -> None:
    presale = await market.on_sale(decide_within_hours=24)
    await market.order(presale)
    presale = await market.close(presale)
    market.pass_time(24 * HOUR_US)
    await market.settle()
    presale = await market.books.read(presale.presale_id)
    assert (presale.state, presale.decided_by) == (State.REFUNDED, "clock")
    assert (await market.orders_of(presale))[0].cause == "threshold"


async def test_no_order_after_the_deadline_though_the_background_sleeps(market: Market) -> None:
    presale = await market.on_sale()
    market.pass_time(60 * MINUTE_US)
    with pytest.raises(FailedPrecondition, match="takes no orders"):
        await market.order(presale)


async def test_units_never_exceed_the_maximum_and_those_that_nobody_pays_are_free_again(market: Market) -> None:
    presale = await market.on_sale()
    waiting = await market.order(presale, 3, "pm_card_authenticationRequired")
    assert waiting.state == "pending_payment" and waiting.action_url
    with pytest.raises(FailedPrecondition, match="0 are left") as refused:
        await market.order(presale)
    assert refused.value.metadata["units_left"] == "0"
    market.pass_time(15 * MINUTE_US)
    await market.settle()
    assert (await market.order(presale, 3)).state == "secured"
    assert await states(market, presale.presale_id) == ["expired", "secured"]


async def test_a_payment_that_succeeds_after_the_close_is_refunded_by_itself(market: Market) -> None:
    presale = await market.on_sale(close_us=market.now_us() + 30 * DAY_US, min_units=1)
    order = await market.order(presale, 1, "pm_card_authenticationRequired")
    await market.order(presale)
    market.pass_time(15 * MINUTE_US)
    market.faults.add("release", Fault.LOST, 3)  # the provider does not hear that it is over
    await market.settle()
    market.bank.act(order.payment_id, True)
    await market.hear(market.provider.posts())
    market.pass_time(2 * MINUTE_US)
    await market.settle()
    order = await market.books.read_order(order.order_id)
    assert (order.state, order.charged, order.refunded) == ("refunded", PRICE, PRICE)
    await market.check(presale.presale_id)


async def test_a_payment_under_way_at_the_close_counts_if_it_succeeds_in_time(market: Market) -> None:
    presale = await market.on_sale(min_units=1)
    market.pass_time(59 * MINUTE_US)
    order = await market.order(presale, 1, "pm_card_authenticationRequired")
    presale = await market.close(presale)
    assert presale.state is State.CLOSING
    market.bank.act(order.payment_id, True)
    await market.hear(market.provider.posts())
    await market.settle()
    assert (await market.books.read(presale.presale_id)).state is State.PRODUCING
    assert await states(market, presale.presale_id) == ["committed"]


async def test_a_refresh_pays_once_also_while_the_first_call_has_no_answer(market: Market) -> None:
    presale = await market.on_sale()
    request_id = str(uuid4())
    market.faults.add("start", Fault.UNHEARD)
    first = await market.order(presale, request_id=request_id)
    assert first.state == "pending_payment"
    placed = await asyncio.gather(*(market.order(presale, request_id=request_id) for _ in range(4)))
    assert {order.order_id for order in placed} == {first.order_id}
    market.pass_time(MINUTE_US)
    await market.settle()
    assert await states(market, presale.presale_id) == ["secured"]
    assert len(market.bank.books.entries) == 1
    with pytest.raises(AlreadyExists):
        await market.order(presale, 2, request_id=request_id)


async def test_a_refund_whose_answer_is_lost_is_asked_for_with_the_same_key(market: Market) -> None:
    presale = await market.on_sale(close_us=market.now_us() + 30 * DAY_US)
    order = await market.order(presale)
    market.faults.add("refund", Fault.UNHEARD, 3)
    await market.selling.cancel_order(order.order_id, BUYER)
    for _ in range(5):
        await market.settle()
        market.pass_time(MINUTE_US)
    order = await market.books.read_order(order.order_id)
    assert (order.state, order.refunded) == ("refunded", PRICE)
    assert sum(key.startswith(f"{order.order_id}:refund") for key in market.bank.books.answers) == 1
    await market.check(presale.presale_id)


async def test_posted_events_twice_and_in_any_order_change_nothing(market: Market) -> None:
    presale = await market.on_sale(min_units=1)
    order = await market.order(presale)
    await market.close(presale)
    posts = market.provider.posts()
    before = await market.books.read_order(order.order_id)
    assert before.state == "committed" and len(posts) >= 2
    for _ in range(2):
        await market.hear(posts[::-1])
        await market.settle()
    assert await market.books.read_order(order.order_id) == before
    with pytest.raises(PermissionDenied):
        market.provider.paid(posts[0][0], "0" * 64)


async def test_accepted_is_counted_when_many_race_the_close(market: Market) -> None:
    presale = await market.on_sale(max_units=50, min_units=1)

    async def ordering() -> Order | None:
        try:
            return await market.order(presale)
        except FailedPrecondition:
            return None

    async def closing() -> None:
        await asyncio.sleep(0.05)
        await market.close(presale)

    *placed, _ = await asyncio.gather(*(ordering() for _ in range(30)), closing())
    await market.settle()
    presale = await market.books.read(presale.presale_id)
    found = {order.order_id: order for order in await market.orders_of(presale)}
    assert found.keys() == {order.order_id for order in placed if order is not None}
    counted = {order_id for order_id, order in found.items() if order.state == "committed"}
    assert presale.secured_units == len(counted)
    assert counted >= {order.order_id for order in placed if order is not None and order.state == "secured"}
    assert {order.state for order_id, order in found.items() if order_id not in counted} <= {"expired"}  # paid too late
    assert presale.state is (State.PRODUCING if counted else State.REFUNDED)
    await market.check(presale.presale_id)


async def test_one_buyer_s_racing_orders_stay_within_their_limit_and_others_are_not_held_up(market: Market) -> None:
    presale = await market.on_sale(max_units=100, max_units_per_buyer=3)

    async def ordering(number: int) -> Order | FailedPrecondition:
        try:
            return await market.order(presale, units=1 + number % 2, buyer_id=f"buyer-{number % 2}")
        except FailedPrecondition as error:
            return error

    said = await asyncio.gather(*(ordering(number) for number in range(16)))
    refused = [error for error in said if isinstance(error, FailedPrecondition)]
    placed = [order for order in said if isinstance(order, Order)]
    by_buyer = {f"buyer-{n}": sum(order.units for order in placed if order.buyer_id == f"buyer-{n}") for n in (0, 1)}
    assert by_buyer == {"buyer-0": 3, "buyer-1": 2}  # of two units each, the second order would be one too many
    assert {error.metadata["buyer_units_left"] for error in refused} == {"0", "1"}
    assert {error.metadata["field"] for error in refused} == {"units"}
    await market.check(presale.presale_id)


async def test_what_a_buyer_cancels_or_did_not_pay_counts_no_more_against_their_limit(market: Market) -> None:
    presale = await market.on_sale(max_units=100, max_units_per_buyer=1)
    assert (await market.order(presale, method="pm_card_visa_chargeDeclined")).state == "expired"
    order = await market.order(presale)
    request_id = str(uuid4())
    with pytest.raises(FailedPrecondition, match="one buyer may order 1, this one 0 more"):
        await market.order(presale, request_id=request_id)
    await market.selling.cancel_order(order.order_id, BUYER)
    again = await market.order(presale, request_id=request_id)
    assert again.state == "secured" and await market.order(presale, request_id=request_id) == again
    await market.check(presale.presale_id)


async def test_what_changed_of_a_draft_is_in_the_record_and_what_did_not_is_not(market: Market) -> None:
    terms = market.terms()
    draft = await market.selling.create(str(uuid4()), MERCHANT, terms)
    for changed in (
        terms,
        replace(terms, price=5, currency="USD", close_us=terms.close_us + 1),
        replace(terms, price=5),
    ):
        draft = await market.selling.edit(draft.presale_id, MERCHANT, str(draft.version), changed)
    await market.selling.open(draft.presale_id, MERCHANT, "")
    with pytest.raises(FailedPrecondition):
        await market.selling.edit(draft.presale_id, MERCHANT, str(draft.version + 1), terms)
    record = (await market.books.changes(draft.presale_id, Page(20, None))).items
    assert [(line.from_state, line.to_state, line.actor, line.reason) for line in record] == [
        ("draft", "open", "merchant", ""),
        ("draft", "draft", "merchant", "price, close_time"),
        ("draft", "draft", "merchant", "price, close_time"),
        ("", "draft", "merchant", ""),
    ]


SHIP_TO = Recipient("Bo Ek", "Storgatan 1\n111 22 Stockholm", "bo@ek.example")


async def test_whom_an_order_is_sent_to_is_in_no_event_and_no_other_table_and_goes_when_its_time_is_over(
    market: Market,
) -> None:
    presale = await market.on_sale()
    request_id = str(uuid4())
    kept = await market.order(presale, ship_to=SHIP_TO, request_id=request_id)
    assert await market.order(presale, ship_to=SHIP_TO, request_id=request_id) == kept
    with pytest.raises(AlreadyExists):
        await market.order(presale, ship_to=replace(SHIP_TO, name="Al Ek"), request_id=request_id)
    with pytest.raises(AlreadyExists):
        await market.order(presale, request_id=request_id)
    back = await market.order(presale, ship_to=SHIP_TO)
    unknown = await market.order(presale)
    ids = [kept.order_id, back.order_id, unknown.order_id]
    await market.close(presale)
    await market.selling.ship(kept.order_id, MERCHANT, "")
    await market.selling.cancel_order(back.order_id, BUYER)
    await market.settle()
    assert await market.books.recipients(ids) == {kept.order_id: SHIP_TO, back.order_id: SHIP_TO}
    async with market.database.transaction() as connection:
        for table in METADATA.sorted_tables:
            if table is not recipients:
                assert "Storgatan" not in str((await connection.execute(select(table))).all()), table.name
    assert "Storgatan" not in repr(kept) + repr(SHIP_TO)

    days = 5 * DAY_US
    market.pass_time(days - HOUR_US)
    assert await market.books.forget_recipients(days) == 0
    market.pass_time(2 * HOUR_US)
    assert await market.books.forget_recipients(days) == 1  # of the one that ended
    market.pass_time(14 * DAY_US - 2 * HOUR_US)
    assert await market.books.forget_recipients(days) == 0  # it could be given back until just now
    market.pass_time(4 * HOUR_US)
    assert await market.books.forget_recipients(days) == 1
    assert await market.books.recipients(ids) == {}
    assert await market.order(presale, ship_to=SHIP_TO, request_id=request_id) is not None  # it is not known any more


async def test_a_cancel_that_races_the_decision_has_one_outcome(market: Market) -> None:
    presale = await market.on_sale(min_units=1)
    await market.order(presale)
    market.pass_time(61 * MINUTE_US)

    async def cancelling() -> str:
        try:
            return (await market.selling.cancel(presale.presale_id, MERCHANT, "", "")).state.value
        except FailedPrecondition:
            return "too late"

    said, _ = await asyncio.gather(cancelling(), market.settle())
    await market.settle()
    ended = await market.books.read(presale.presale_id)
    assert ended.state is (State.PRODUCING if said == "too late" else State.REFUNDED)
    await market.check(presale.presale_id)


async def test_a_charge_of_held_money_that_is_refused_has_a_week_of_grace(market: Market) -> None:
    presale = await market.on_sale(min_units=1)
    order = await market.order(presale)
    market.pass_time(7 * DAY_US)  # the hold has run out
    await market.settle()
    order = await market.books.read_order(order.order_id)
    assert (order.state, order.cause, order.charged) == ("released", "capture", 0)
    assert (await market.books.read(presale.presale_id)).state is State.REFUNDED
    await market.check_ended(presale.presale_id)


async def test_a_delay_waits_for_consent_and_silence_is_a_refund(market: Market) -> None:
    presale = await market.on_sale(min_units=1, ships_within_days=10)
    yes, no, silent = [await market.order(presale) for _ in range(3)]
    await market.close(presale)
    request_id = str(uuid4())
    for _ in range(2):  # the second time it is the same delay
        _, asked = await market.selling.delay(request_id, presale.presale_id, MERCHANT, 20, "the loom broke")
        assert asked == 3
    with pytest.raises(AlreadyExists):
        await market.selling.delay(request_id, presale.presale_id, MERCHANT, 21, "the loom broke")
    assert (await market.selling.answer_delay(yes.order_id, BUYER, True)).ships_by_us == yes.ships_by_us + 20 * DAY_US
    await market.selling.answer_delay(no.order_id, BUYER, False)
    market.pass_time(10 * DAY_US)
    await market.settle()
    assert await states(market, presale.presale_id) == ["committed", "refunded", "refunded"]
    assert (await market.books.read_order(silent.order_id)).cause == "delay"
    with pytest.raises(FailedPrecondition):
        await market.selling.answer_delay(silent.order_id, BUYER, True)


async def test_a_shipped_item_can_be_given_back_for_two_weeks(market: Market) -> None:
    presale = await market.on_sale(min_units=1)
    back, kept = [await market.order(presale) for _ in range(2)]
    await market.close(presale)
    for order in (back, kept):
        await market.selling.ship(order.order_id, MERCHANT, "post 1")
    await market.settle()
    assert (await market.books.read(presale.presale_id)).state is State.SHIPPED
    await market.selling.cancel_order(back.order_id, BUYER)
    market.pass_time(14 * DAY_US)
    await market.settle()
    order = await market.books.read_order(back.order_id)
    assert (order.state, order.returned, order.cause) == ("refunded", True, "return")
    with pytest.raises(FailedPrecondition, match="returns is over"):
        await market.selling.cancel_order(kept.order_id, BUYER)
    await market.check_ended(presale.presale_id)


async def test_a_production_that_fails_refunds_what_was_not_shipped(market: Market) -> None:
    presale = await market.on_sale(min_units=1)
    shipped, waiting = [await market.order(presale) for _ in range(2)]
    await market.close(presale)
    await market.selling.ship(shipped.order_id, MERCHANT, "")
    await market.selling.fail(presale.presale_id, MERCHANT, "the factory burnt down")
    await market.settle()
    assert await states(market, presale.presale_id) == ["shipped", "refunded"]
    assert (await market.books.read_order(waiting.order_id)).cause == "production"
    assert (await market.books.read(presale.presale_id)).state is State.SHIPPED
    await market.check_ended(presale.presale_id)


async def test_an_order_that_the_provider_never_heard_of_ends_at_once(market: Market) -> None:
    presale = await market.on_sale()
    market.plan.left = 7
    while True:  # until the crash falls between the order and the provider's first call
        try:
            order = await market.order(presale)
        except BaseException:
            market.plan.left = 0
            break
        await market.selling.cancel_order(order.order_id, BUYER)
        await market.settle()
        market.plan.left = market.plan.seen % 9 + 5
    await market.selling.cancel(presale.presale_id, MERCHANT, "", "")
    market.pass_time(2 * MINUTE_US)
    await market.settle()
    await market.check_ended(presale.presale_id)


async def test_a_money_back_that_is_refused_is_tried_again_later_with_another_key_and_counted(market: Market) -> None:
    presale = await market.on_sale()
    order = await market.order(presale, 1, "pm_card_delayed")
    await market.selling.cancel_order(order.order_id, BUYER)  # what is being processed cannot be cancelled
    await market.settle()
    _, stuck = await market.books.counts(presale.presale_id)
    assert stuck == 1 and (await market.books.audit()) == Audit(stuck=1, unbalanced=0)
    assert (await market.books.backlog()).waiting >= 1
    market.pass_time(2 * HOUR_US)
    for _ in range(3):
        await market.settle()
        market.pass_time(2 * HOUR_US)
    order = await market.books.read_order(order.order_id)
    assert order.state == "released" and order.held == 0
    assert (await market.books.counts(presale.presale_id))[1] == 0


async def test_a_fault_with_one_order_holds_up_no_other(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    presale = await market.on_sale(close_us=market.now_us() + 30 * DAY_US)
    broken, *_ = [await market.order(presale) for _ in range(3)]
    refund = market.provider.refund

    async def refuses(key: str, payment_id: str, amount: int) -> Payment:
        if payment_id == broken.payment_id:
            raise ZeroDivisionError
        return await refund(key, payment_id, amount)

    monkeypatch.setattr(market.provider, "refund", refuses)
    await market.selling.cancel(presale.presale_id, MERCHANT, "", "")
    await market.settle()
    assert await states(market, presale.presale_id) == ["cancelling", "refunded", "refunded"]
    assert market.settling.metrics.faults._value.get() >= 1
    monkeypatch.undo()
    market.pass_time(2 * MINUTE_US)
    await market.settle()
    assert (await market.books.read(presale.presale_id)).state is State.REFUNDED


async def test_nobody_looks_after_a_payment_that_has_ended(market: Market) -> None:
    presale = await market.on_sale(close_us=market.now_us() + 30 * DAY_US)
    await market.order(presale, 1, "pm_card_authenticationRequired")
    market.pass_time(29 * DAY_US)  # the look and the release are due at the same moment
    await market.close(presale)
    await market.check_ended(presale.presale_id)


@pytest.mark.parametrize("what", ["open", "cancel", "decide", "fail", "edit", "ship"])
async def test_another_merchant_changes_nothing(market: Market, what: str) -> None:
    presale = await market.on_sale()
    order = await market.order(presale)
    calls = {
        "open": lambda: market.selling.open(presale.presale_id, "another", ""),
        "cancel": lambda: market.selling.cancel(presale.presale_id, "another", "", ""),
        "decide": lambda: market.selling.decide(presale.presale_id, "another", "", Decision.PRODUCE, ""),
        "fail": lambda: market.selling.fail(presale.presale_id, "another", ""),
        "edit": lambda: market.selling.edit(presale.presale_id, "another", "1", market.terms()),
        "ship": lambda: market.selling.ship(order.order_id, "another", ""),
    }
    with pytest.raises(PermissionDenied):
        await calls[what]()
    for call in (market.selling.cancel_order, market.selling.read_order):
        with pytest.raises(PermissionDenied):
            await call(order.order_id, "another")


async def test_an_etag_of_before_changes_nothing(market: Market) -> None:
    draft = await market.selling.create(str(uuid4()), MERCHANT, market.terms())
    edited = await market.selling.edit(draft.presale_id, MERCHANT, str(draft.version), market.terms(title="Silk dress"))
    with pytest.raises(FailedPrecondition, match="has changed since"):
        await market.selling.open(draft.presale_id, MERCHANT, str(draft.version))
    assert (await market.selling.open(draft.presale_id, MERCHANT, str(edited.version))).terms.title == "Silk dress"


async def test_a_list_has_the_states_that_are_asked_for_and_its_pages_belong_to_them(market: Market) -> None:
    ids = [(await market.on_sale()).presale_id for _ in range(3)]
    draft = await market.selling.create(str(uuid4()), MERCHANT, market.terms())
    await market.selling.cancel(ids[1], MERCHANT, "", "")
    servicer = ItemsServicer(market.selling, market.settling, market.provider, Mock())

    async def listed(page_token: str = "", *states: pb.PresaleState.ValueType) -> api.ListPresalesResponse:
        asked = api.ListPresalesRequest(user_id=MERCHANT, page_size=1, page_token=page_token, states=states)
        return await servicer.ListPresales(asked, None)

    first = await listed("", pb.PRESALE_STATE_OPEN)
    second = await listed(first.next_page_token, pb.PRESALE_STATE_OPEN)
    assert [each.presale_id for page in (first, second) for each in page.presales] == [ids[2], ids[0]]
    assert not second.next_page_token
    assert [each.presale_id for each in (await listed()).presales] == [draft.presale_id]
    for wrong in ([pb.PRESALE_STATE_DRAFT], [pb.PRESALE_STATE_OPEN, pb.PRESALE_STATE_DRAFT], []):
        with pytest.raises(InvalidArgument, match="page_token"):
            await listed(first.next_page_token, *wrong)
    with pytest.raises(InvalidArgument, match=r"states\[1\]"):
        await listed("", pb.PRESALE_STATE_OPEN, pb.PRESALE_STATE_UNSPECIFIED)
