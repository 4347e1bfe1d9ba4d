"""The port to a provider of payments means the same over the fake one and over the adapter, whatever answers that."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from deploy.local.payments.bank import DAY_US, DELAY_US, HOLD_US
from deploy.local.payments.books import SECOND_US, Fault
from services.items.payments import Charge, Operation, Payment, PaymentState
from services.items.ports import Provider, Refused
from services.runtime.errors import PermissionDenied, Unavailable
from tests.services.items.providers import (
    LOCALSTRIPE,
    START_US,
    BankTrial,
    Trial,
    fake,
    stripe_on_localstripe,
    stripe_on_our_server,
    twice_and_backwards,
)

TRIALS = {"fake": fake, "stripe on our server": stripe_on_our_server, "stripe on localstripe": stripe_on_localstripe}
AMOUNT = 12_345
MOVES = (Operation.START, Operation.CAPTURE, Operation.RELEASE, Operation.REFUND)
GOOD, ASKS, DELAYED = "pm_card_visa", "pm_card_authenticationRequired", "pm_card_delayed"


@pytest.fixture(params=TRIALS)
async def trial(request: pytest.FixtureRequest) -> AsyncIterator[Trial]:
    if request.param == "stripe on localstripe":
        marker = request.node.get_closest_marker("promised")
        if marker is not None:
            pytest.skip(f"localstripe does not promise it: {', '.join(marker.args)}")
        if "at_bank" in request.fixturenames:
            pytest.skip("only on our own bank")
        if not LOCALSTRIPE.exists():
            pytest.skip("localstripe is not installed: make payments-check")
    async with TRIALS[request.param]() as tried:
        yield tried


@pytest.fixture
async def at_bank(trial: Trial) -> BankTrial:
    """One whose other side a test can move."""
    assert isinstance(trial, BankTrial)
    return trial


def charge(method: str = GOOD, *, captures: bool = False) -> Charge:
    return Charge("order-1", AMOUNT, "EUR", method, captures)


def key() -> str:
    return uuid.uuid4().hex


async def held(trial: Trial) -> Payment:
    return await trial.provider.start(key(), charge())


async def charged(trial: Trial) -> Payment:
    return await trial.provider.start(key(), charge(captures=True))


async def test_money_is_held_then_charged(trial: Trial) -> None:
    payment = await held(trial)
    assert replace(payment, capture_before_us=None) == Payment(payment.payment_id, PaymentState.HELD, held=AMOUNT)
    assert await trial.provider.find(payment.payment_id) == payment
    after = await trial.provider.capture(key(), payment.payment_id)
    assert after == Payment(payment.payment_id, PaymentState.CHARGED, charged=AMOUNT)
    assert await trial.provider.find(payment.payment_id) == after


@pytest.mark.promised("holds")
async def test_a_hold_says_until_when_it_can_be_captured(trial: Trial) -> None:
    assert (await held(trial)).capture_before_us == START_US + HOLD_US


async def test_money_is_charged_at_once(trial: Trial) -> None:
    payment = await charged(trial)
    assert payment == Payment(payment.payment_id, PaymentState.CHARGED, charged=AMOUNT)
    assert await trial.provider.find(payment.payment_id) == payment


async def test_a_hold_is_released_once(trial: Trial) -> None:
    payment = await held(trial)
    after = await trial.provider.release(key(), payment.payment_id)
    assert after == Payment(payment.payment_id, PaymentState.RELEASED)
    with pytest.raises(Refused):
        await trial.provider.release(key(), payment.payment_id)
    assert await trial.provider.find(payment.payment_id) == after


@pytest.mark.promised("holds")
async def test_what_was_released_is_not_captured(trial: Trial) -> None:
    payment = await held(trial)
    after = await trial.provider.release(key(), payment.payment_id)
    with pytest.raises(Refused):
        await trial.provider.capture(key(), payment.payment_id)
    assert await trial.provider.find(payment.payment_id) == after


async def test_what_is_charged_is_neither_released_nor_captured_again(trial: Trial) -> None:
    payment = await charged(trial)
    with pytest.raises(Refused):
        await trial.provider.release(key(), payment.payment_id)
    with pytest.raises(Refused):
        await trial.provider.capture(key(), payment.payment_id)
    assert await trial.provider.find(payment.payment_id) == payment


async def test_refunds_add_up(trial: Trial) -> None:
    payment = await charged(trial)
    part = await trial.provider.refund(key(), payment.payment_id, 345)
    assert part == replace(payment, refunded=345)
    whole = await trial.provider.refund(key(), payment.payment_id, AMOUNT - 345)
    assert whole == replace(payment, refunded=AMOUNT)
    assert await trial.provider.find(payment.payment_id) == whole


@pytest.mark.promised("refunds")
async def test_no_more_is_refunded_than_was_charged(trial: Trial) -> None:
    payment = await charged(trial)
    await trial.provider.refund(key(), payment.payment_id, 345)
    for amount in (AMOUNT - 344, AMOUNT, 0):
        with pytest.raises(Refused):
            await trial.provider.refund(key(), payment.payment_id, amount)
    whole = await trial.provider.refund(key(), payment.payment_id, AMOUNT - 345)
    with pytest.raises(Refused):
        await trial.provider.refund(key(), payment.payment_id, 1)
    assert await trial.provider.find(payment.payment_id) == whole == replace(payment, refunded=AMOUNT)


@pytest.mark.promised("refunds")
async def test_what_is_held_is_not_refunded(trial: Trial) -> None:
    payment = await held(trial)
    with pytest.raises(Refused):
        await trial.provider.refund(key(), payment.payment_id, 1)
    assert await trial.provider.find(payment.payment_id) == payment


@pytest.mark.promised("declined")
@pytest.mark.parametrize("captures", [False, True])
async def test_a_payment_that_is_declined_says_why(trial: Trial, captures: bool) -> None:
    broke = charge("pm_card_visa_chargeDeclinedInsufficientFunds", captures=captures)
    payment = await trial.provider.start(key(), broke)
    assert payment == Payment(payment.payment_id, PaymentState.FAILED, failure="Your card has insufficient funds.")
    assert await trial.provider.find(payment.payment_id) == payment


async def test_what_is_not_there_is_refused(trial: Trial) -> None:
    ask: list[Callable[[Provider], Awaitable[Payment]]] = [
        lambda provider: provider.find("pi_nothing"),
        lambda provider: provider.capture(key(), "pi_nothing"),
        lambda provider: provider.release(key(), "pi_nothing"),
        lambda provider: provider.refund(key(), "pi_nothing", 1),
        lambda provider: provider.start(key(), charge("pm_nothing")),
        lambda provider: provider.start(key(), replace(charge(), amount=0)),
    ]
    for each in ask:
        with pytest.raises(Refused, match=r"\w"):
            await each(trial.provider)


async def test_a_payment_has_its_orders_currency(trial: Trial) -> None:
    for currency in ("EUR", "JPY", "USD"):
        assert (await trial.provider.start(key(), replace(charge(), currency=currency))).held == AMOUNT
    if isinstance(trial, BankTrial):
        assert {name: totals.held for name, totals in trial.bank.totals().items()} == {
            "EUR": AMOUNT,
            "JPY": AMOUNT,
            "USD": AMOUNT,
        }


@pytest.mark.promised("keys")
async def test_the_work_of_a_key_is_done_once(trial: Trial) -> None:
    first, second, third, fourth = (key() for _ in range(4))
    started = [await trial.provider.start(first, charge()) for _ in range(3)]
    assert started[0] == started[1] == started[2]
    payment_id = started[0].payment_id
    captured = [await trial.provider.capture(second, payment_id) for _ in range(3)]
    assert captured[0] == captured[1] == captured[2]
    refunded = [await trial.provider.refund(third, payment_id, 5) for _ in range(3)]
    assert [payment.refunded for payment in refunded] == [5, 5, 5]
    other = await held(trial)
    released = [await trial.provider.release(fourth, other.payment_id) for _ in range(2)]
    assert released[0] == released[1] == Payment(other.payment_id, PaymentState.RELEASED)


@pytest.mark.promised("keys")
async def test_a_key_that_comes_again_is_answered_with_the_payment_as_it_is_now(trial: Trial) -> None:
    first, second = key(), key()
    payment = await trial.provider.start(first, charge())
    await trial.provider.capture(second, payment.payment_id)
    now = await trial.provider.refund(key(), payment.payment_id, 45)
    assert await trial.provider.start(first, charge()) == now
    assert await trial.provider.capture(second, payment.payment_id) == now


@pytest.mark.promised("keys", "refunds", "declined")
async def test_a_key_that_was_refused_or_declined_is_so_again(trial: Trial) -> None:
    payment = await charged(trial)
    refused, declined, poor = key(), key(), charge("pm_card_visa_chargeDeclined")
    for _ in range(2):
        with pytest.raises(Refused):
            await trial.provider.refund(refused, payment.payment_id, AMOUNT + 1)
    one = await trial.provider.start(declined, poor)
    assert one.state is PaymentState.FAILED
    assert await trial.provider.start(declined, poor) == one


@pytest.mark.promised("keys")
async def test_a_key_with_another_request_does_nothing_and_decides_nothing(trial: Trial) -> None:
    first = key()
    payment = await trial.provider.start(first, charge())
    with pytest.raises(Unavailable):
        await trial.provider.start(first, replace(charge(), amount=1))
    with pytest.raises(Unavailable):
        await trial.provider.capture(first, payment.payment_id)
    assert await trial.provider.find(payment.payment_id) == payment


async def test_a_key_is_forgotten_after_a_day(at_bank: BankTrial) -> None:
    first = key()
    one = await at_bank.provider.start(first, charge())
    at_bank.time.forward(DAY_US / SECOND_US - 1)
    assert await at_bank.provider.start(first, charge()) == one
    at_bank.time.forward(1)
    assert (await at_bank.provider.start(first, charge())).payment_id != one.payment_id


@pytest.mark.parametrize("captures", [False, True])
async def test_a_payment_waits_for_the_buyer(at_bank: BankTrial, captures: bool) -> None:
    payment = await at_bank.provider.start(key(), charge(ASKS, captures=captures))
    assert payment == Payment(payment.payment_id, PaymentState.PENDING, action_url=payment.action_url)
    assert payment.action_url.startswith("http")
    at_bank.bank.act(payment.payment_id, True)
    after = await at_bank.provider.find(payment.payment_id)
    assert (after.held, after.charged, after.action_url) == ((0, AMOUNT, "") if captures else (AMOUNT, 0, ""))
    at_bank.bank.act(payment.payment_id, False)  # in a second tab
    assert await at_bank.provider.find(payment.payment_id) == after


async def test_a_buyer_who_does_not_approve_ends_the_payment(at_bank: BankTrial) -> None:
    payment = await at_bank.provider.start(key(), charge(ASKS))
    at_bank.bank.act(payment.payment_id, False)
    after = await at_bank.provider.find(payment.payment_id)
    assert after.failure
    assert after == Payment(payment.payment_id, PaymentState.FAILED, failure=after.failure)


async def test_a_buyer_who_approves_too_late_pays_nothing(at_bank: BankTrial) -> None:
    payment = await at_bank.provider.start(key(), charge(ASKS, captures=True))
    released = await at_bank.provider.release(key(), payment.payment_id)
    assert released == Payment(payment.payment_id, PaymentState.RELEASED)
    at_bank.bank.act(payment.payment_id, True)
    assert await at_bank.provider.find(payment.payment_id) == released


@pytest.mark.parametrize(
    ("method", "state"), [(DELAYED, PaymentState.CHARGED), ("pm_card_delayedDeclined", PaymentState.FAILED)]
)
async def test_a_payment_that_is_decided_later_is_not_released_before(
    at_bank: BankTrial, method: str, state: PaymentState
) -> None:
    payment = await at_bank.provider.start(key(), charge(method, captures=True))
    assert payment == Payment(payment.payment_id, PaymentState.PENDING)
    with pytest.raises(Refused):
        await at_bank.provider.release(key(), payment.payment_id)
    at_bank.time.forward(DELAY_US / SECOND_US)
    assert (await at_bank.provider.find(payment.payment_id)).state is state


async def test_a_hold_runs_out(at_bank: BankTrial) -> None:
    payment = await held(at_bank)
    at_bank.time.forward(HOLD_US / SECOND_US - 1)
    assert await at_bank.provider.find(payment.payment_id) == payment
    at_bank.time.forward(1)
    with pytest.raises(Refused):
        await at_bank.provider.capture(key(), payment.payment_id)
    assert await at_bank.provider.find(payment.payment_id) == Payment(payment.payment_id, PaymentState.RELEASED)


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("operation", MOVES)
async def test_what_goes_wrong_is_unknown_and_with_its_key_done_once(
    at_bank: BankTrial, operation: Operation, fault: Fault
) -> None:
    before = await (charged if operation is Operation.REFUND else held)(at_bank)
    provider, same = at_bank.provider, key()
    ask: dict[Operation, Callable[[], Awaitable[Payment]]] = {
        Operation.START: lambda: provider.start(same, charge()),
        Operation.CAPTURE: lambda: provider.capture(same, before.payment_id),
        Operation.RELEASE: lambda: provider.release(same, before.payment_id),
        Operation.REFUND: lambda: provider.refund(same, before.payment_id, 45),
    }
    at_bank.faults.add(operation, fault)
    with pytest.raises(Unavailable):
        await ask[operation]()
    after = [await ask[operation]() for _ in range(2)]
    assert after[0] == after[1]
    totals = at_bank.bank.totals()["EUR"]
    assert (totals.held, totals.charged, totals.refunded) == {
        Operation.START: (2 * AMOUNT, 0, 0),
        Operation.CAPTURE: (0, AMOUNT, 0),
        Operation.RELEASE: (0, 0, 0),
        Operation.REFUND: (0, AMOUNT, 45),
    }[operation]


async def test_a_payment_is_found_by_its_order_also_when_its_key_is_forgotten(at_bank: BankTrial) -> None:
    asked = charge()
    payment = await at_bank.provider.start(key(), asked)
    assert await at_bank.provider.of_order(asked.order_id) == payment
    assert await at_bank.provider.of_order("another") is None
    at_bank.faults.add("find", Fault.LOST)
    with pytest.raises(Unavailable):
        await at_bank.provider.of_order(asked.order_id)


async def test_a_provider_that_does_not_answer_is_unavailable(at_bank: BankTrial) -> None:
    payment = await held(at_bank)
    at_bank.faults.add("find", Fault.LOST)
    with pytest.raises(Unavailable):
        await at_bank.provider.find(payment.payment_id)
    assert await at_bank.provider.find(payment.payment_id) == payment


async def test_events_name_their_payment_however_often_and_in_whatever_order_they_come(at_bank: BankTrial) -> None:
    at_bank.bank.posting = twice_and_backwards
    provider = at_bank.provider
    payment = await provider.start(key(), charge(ASKS))
    at_bank.time.forward(1)
    at_bank.bank.act(payment.payment_id, True)
    at_bank.time.forward(1)
    await provider.capture(key(), payment.payment_id)
    at_bank.time.forward(1)
    now = await provider.refund(key(), payment.payment_id, 45)
    assert at_bank.posts() == []
    at_bank.time.forward(60)
    posts = at_bank.posts()
    assert len(posts) == 8 and len({payload for payload, _ in posts}) == 4
    for payload, signature in posts:
        assert provider.paid(payload, signature) == payment.payment_id
        with pytest.raises(PermissionDenied):
            provider.paid(payload + b" ", signature)
        with pytest.raises(PermissionDenied):
            provider.paid(payload, signature[:-1] + ("1" if signature[-1] != "1" else "2"))
    assert await provider.find(payment.payment_id) == now
    assert at_bank.posts() == []


async def test_it_answers(trial: Trial) -> None:
    await trial.provider.check()
