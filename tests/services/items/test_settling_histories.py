"""Histories of presales that nobody thought of: whatever happens, in whichever order, with a crash anywhere.

Hypothesis plays merchants, buyers, the provider, time and crashes against the real database. After each step what is
committed must be whole; at the end everything that was begun comes to its end by itself, and the provider's own books
say what ours say. `make items-histories` plays ten thousand on PostgreSQL.
"""

import asyncio
import os
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from deploy.local.payments.bank import METHODS, Event, Fault
from services.items.orders import Order
from services.items.presales import DAY_US, HOUR_US, Decision, State
from services.runtime.errors import FailedPrecondition, RetryableError
from tests.services.items.market import BUYER, MERCHANT, MINUTE_US, Crashed, Market

MANY = "ITEMS_HISTORIES" in os.environ  # others at each run, or those of pytest's --hypothesis-seed
HISTORIES = int(os.environ.get("ITEMS_HISTORIES", "40"))
STEPS = 25
_OPERATIONS = ("start", "capture", "release", "refund", "find")
_PAYS = st.sampled_from(("pm_card_visa", "pm_card_visa", *sorted(METHODS)))
_FAULTS = st.sampled_from((None, None, *Fault))
_CRASHES = st.integers(0, 24)
_MINUTES = st.sampled_from((0, 1, 16, 61, 26 * 60, 8 * 24 * 60))


def _copies(event: Event) -> tuple[int, ...]:
    """Each event is posted twice, at times that mix their order."""
    first = hash(event.event_id) % 3 * MINUTE_US
    return (first, first + MINUTE_US)


class Histories(RuleBasedStateMachine):
    """One presale, from its sale to its end. `market` is set before it runs, and is the same for all histories."""

    market: Market
    loop: asyncio.AbstractEventLoop
    orders = Bundle("orders")
    played: list[str]

    first: list[str]  # what failed first: a race cannot be repeated, and the second time something else may fail

    def run(self, doing: Callable[[], Awaitable[Any]]) -> Any:
        """What came of it; None where it was refused, or the process crashed in the middle."""
        try:
            return self.loop.run_until_complete(doing())  # type: ignore[arg-type]
        except (Crashed, FailedPrecondition):
            return None

    @initialize(
        least=st.integers(1, 4), more=st.integers(0, 3), hours=st.sampled_from((1, 24 * 30)),
        decide=st.sampled_from((0, 30)),
    )  # fmt: skip
    def sale(self, least: int, more: int, hours: int, decide: int) -> None:
        self.market.plan.left = 0
        terms: dict[str, Any] = {
            "min_units": least,
            "max_units": least + more,
            "close_us": self.market.now_us() + hours * HOUR_US,
            "decide_within_hours": decide,
        }
        self.presale = self.run(lambda: self.market.on_sale(**terms))
        self.asked: dict[str, Any] = {}  # request_id → what was asked under it

    @rule(target=orders, units=st.integers(1, 2), method=_PAYS, fault=_FAULTS, crash=_CRASHES)
    def order(self, units: int, method: str, fault: Fault | None, crash: int) -> str:
        request_id = str(uuid4())
        self.asked[request_id] = (units, method)
        self.goes_wrong("start", fault, crash)
        self.run(lambda: self.market.order(self.presale, units, method, request_id=request_id))
        return request_id

    @rule(request_id=orders, crash=_CRASHES)
    def order_again(self, request_id: str, crash: int) -> None:
        self.goes_wrong("start", None, crash)
        units, method = self.asked[request_id]
        self.run(lambda: self.market.order(self.presale, units, method, request_id=request_id))

    @rule(request_id=orders, crash=_CRASHES)
    def cancel_order(self, request_id: str, crash: int) -> None:
        if (order := self.found(request_id)) is not None:
            self.goes_wrong("start", None, crash)
            self.run(lambda: self.market.selling.cancel_order(order.order_id, BUYER))

    @rule(request_id=orders, consents=st.booleans())
    def answer_delay(self, request_id: str, consents: bool) -> None:
        if (order := self.found(request_id)) is not None:
            self.run(lambda: self.market.selling.answer_delay(order.order_id, BUYER, consents))

    @rule(request_id=orders)
    def ship(self, request_id: str) -> None:
        if (order := self.found(request_id)) is not None:
            self.run(lambda: self.market.selling.ship(order.order_id, MERCHANT, "post"))

    @rule(request_id=orders, approves=st.booleans())
    def buyer_acts(self, request_id: str, approves: bool) -> None:
        if (order := self.found(request_id)) is not None and order.payment_id:
            self.market.bank.act(order.payment_id, approves)

    @rule(decision=st.sampled_from((Decision.PRODUCE, Decision.REFUND)))
    def decide(self, decision: Decision) -> None:
        self.run(lambda: self.market.selling.decide(self.presale.presale_id, MERCHANT, "", decision, ""))

    @rule()
    def cancel(self) -> None:
        self.run(lambda: self.market.selling.cancel(self.presale.presale_id, MERCHANT, "", ""))

    @rule()
    def production_fails(self) -> None:
        self.run(lambda: self.market.selling.fail(self.presale.presale_id, MERCHANT, ""))

    @rule(days=st.sampled_from((1, 30)))
    def delay(self, days: int) -> None:
        self.run(lambda: self.market.selling.delay(str(uuid4()), self.presale.presale_id, MERCHANT, days, ""))

    @rule(minutes=_MINUTES)
    def time_passes(self, minutes: int) -> None:
        self.market.pass_time(minutes * MINUTE_US)

    @rule(turns=st.integers(1, 6), operation=st.sampled_from(_OPERATIONS), fault=_FAULTS, crash=_CRASHES)
    def background(self, turns: int, operation: str, fault: Fault | None, crash: int) -> None:
        self.goes_wrong(operation, fault, crash)
        for _ in range(turns):
            self.run(self.market.settling.turn)

    @rule(late=st.booleans())
    def events_arrive(self, late: bool) -> None:
        posts = self.market.provider.posts()
        self.run(lambda: self.market.hear(posts[::-1] if late else posts))

    def goes_wrong(self, operation: str, fault: Fault | None, crash: int) -> None:
        """The provider's next answer to an operation, and a crash at a point from now; 0 is none."""
        if fault is not None:
            self.market.faults.add(operation, fault)
        self.market.plan.left = crash

    @rule(request_id=orders, minutes=_MINUTES)
    def race(self, request_id: str, minutes: int) -> None:
        """The background, a buyer, the merchant and a new order at the same moment."""
        self.market.pass_time(minutes * MINUTE_US)
        order, selling, presale_id = self.found(request_id), self.market.selling, self.presale.presale_id
        calls: list[Awaitable[Any]] = [self.market.settling.turn(), self.market.order(self.presale)]
        if order is not None:
            calls.append(selling.cancel_order(order.order_id, BUYER))
        calls.append(selling.decide(presale_id, MERCHANT, "", Decision.PRODUCE, ""))

        async def together() -> None:
            for outcome in await asyncio.gather(*(_quiet(call) for call in calls)):
                assert outcome is None or isinstance(outcome, Crashed | FailedPrecondition | RetryableError), outcome

        self.run(together)

    def found(self, request_id: str) -> Order | None:
        """The order of a request, as it is committed."""
        left, self.market.plan.left = self.market.plan.left, 0
        found: Order | None = self.run(lambda: self.market.books.placed(request_id))
        self.market.plan.left = left
        return found

    @invariant()
    def what_is_committed_is_whole(self) -> None:
        if hasattr(self, "presale"):
            left, self.market.plan.left = self.market.plan.left, 0
            self.must_hold(self.market.check(self.presale.presale_id))
            self.market.plan.left = left

    def must_hold(self, doing: Awaitable[Any]) -> None:
        """Notes what fails first."""
        try:
            self.loop.run_until_complete(doing)  # type: ignore[arg-type]
        except Exception:
            self.first.append(traceback.format_exc())
            raise

    def teardown(self) -> None:
        if hasattr(self, "presale"):
            self.played.append(self.presale.presale_id)
            if MANY and len(self.played) % 100 == 0:
                print(f"{len(self.played)} of {HISTORIES} histories", file=sys.__stderr__, flush=True)
            self.market.plan.left = 0
            for operation in _OPERATIONS:
                while self.market.faults(operation, ""):
                    pass
            self.must_hold(self._end())

    async def _end(self) -> None:
        """Time passes and the merchant ships what was made: then all of it is over, whatever went wrong before."""
        market, presale_id = self.market, self.presale.presale_id
        for _ in range(40):
            await market.settle()
            presale = await market.books.read(presale_id)
            if presale.state is State.OPEN:
                market.pass_time(presale.terms.close_us - market.now_us())
            for order in await market.orders_of(presale):
                if order.state == "committed":
                    await market.selling.ship(order.order_id, MERCHANT, "post")
            if presale.state in (State.SHIPPED, State.REFUNDED, State.CANCELLED):
                market.pass_time(2 * DAY_US)
                await market.settle()
                break
            market.pass_time(13 * HOUR_US)
        await market.check(presale_id)
        await market.check_ended(presale_id)


async def _quiet(call: Awaitable[Any]) -> BaseException | None:
    try:
        await call
    except (Crashed, Exception) as error:
        return error
    return None


@pytest.mark.timeout(0)
def test_every_history_ends_shipped_or_refunded_once(url: str) -> None:
    with asyncio.Runner() as runner:
        market = Market(url, posting=_copies)
        first: list[str] = []
        machine = type(
            "Played", (Histories,), {"market": market, "loop": runner.get_loop(), "first": first, "played": []}
        )
        try:
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=HISTORIES,
                    stateful_step_count=STEPS,
                    deadline=None,
                    derandomize=not MANY,
                    database=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        except Exception as error:
            if first:
                raise AssertionError(first[0]) from error
            raise
        finally:
            runner.run(market.database.close())
