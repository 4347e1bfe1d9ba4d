"""The bank of one machine keeps its rules, whatever is asked of it, in whatever order, and whatever goes wrong."""

from collections import Counter
from pathlib import Path

import hypothesis.strategies as st
from hypothesis import given, settings

from deploy.local.payments.bank import DAY_US, HOLD_US, Bank
from deploy.local.payments.books import (
    METHODS,
    SECOND_US,
    Failed,
    Fault,
    KeyReused,
    PlannedFaults,
    Post,
    Refusal,
    Totals,
)
from deploy.local.payments.store import Store
from services.items.payments import Charge, Operation, PaymentState

NOW_US = 1_800_000_000 * SECOND_US
AMOUNT = 100
CHARGE = Charge("order-1", AMOUNT, "EUR", "pm_card_visa", captures=False)
KEYS = st.sampled_from(["a", "b", "c", "d"])
NUMBERS = st.integers(0, 5)  # the payment that is meant: the latest, the one before, …
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("start"), KEYS, st.sampled_from(sorted(METHODS)), st.booleans()),
        st.tuples(st.just("capture"), KEYS, NUMBERS),
        st.tuples(st.just("release"), KEYS, NUMBERS),
        st.tuples(st.just("refund"), KEYS, NUMBERS, st.integers(0, AMOUNT + 1)),
        st.tuples(st.just("act"), NUMBERS, st.booleans()),
        st.tuples(st.just("time"), st.sampled_from([1, SECOND_US, 10 * SECOND_US, DAY_US, HOLD_US])),
        st.tuples(st.just("fault"), st.sampled_from(Operation), st.sampled_from(Fault)),
    ),
    max_size=30,
)


class Clock:
    now_us = NOW_US

    def __call__(self) -> int:
        return self.now_us


def take(bank: Bank, clock: Clock, faults: PlannedFaults, step: tuple[object, ...]) -> None:
    """One step; what it names and is not there is nothing."""
    ids = list(bank.books.entries)
    match step:
        case ("start", str(key), str(method), bool(captures)):
            bank.start(key, Charge("order", AMOUNT, "EUR", method, captures))
        case ("capture", str(key), int(number)) if number < len(ids):
            bank.capture(key, ids[-1 - number])
        case ("release", str(key), int(number)) if number < len(ids):
            bank.release(key, ids[-1 - number])
        case ("refund", str(key), int(number), int(amount)) if number < len(ids):
            bank.refund(key, ids[-1 - number], amount)
        case ("act", int(number), bool(approves)) if number < len(ids):
            bank.act(ids[-1 - number], approves)
        case ("time", int(passed_us)):
            clock.now_us += passed_us
        case ("fault", Operation() as operation, Fault() as fault):
            faults.add(operation, fault)


def check(bank: Bank) -> None:
    totals = bank.totals()
    sums = Counter[str]()
    for entry in bank.books.entries.values():
        payment = entry.payment
        assert 0 <= payment.refunded <= payment.charged <= AMOUNT
        assert payment.held == (AMOUNT if payment.state is PaymentState.HELD else 0)
        assert (payment.charged > 0) == (payment.state is PaymentState.CHARGED)
        assert (payment.capture_before_us is not None) == (payment.state is PaymentState.HELD)
        assert bool(payment.action_url) <= (payment.state is PaymentState.PENDING)
        assert bool(payment.failure) == (payment.state is PaymentState.FAILED)
        sums += Counter(held=payment.held, charged=payment.charged, refunded=payment.refunded)
    expected = Totals(sums["held"], sums["charged"], sums["refunded"])
    assert totals.get("EUR", Totals()) == expected


@settings(max_examples=200, deadline=None)
@given(steps=STEPS)
def test_money_is_where_it_is_said_to_be_and_every_change_is_posted(steps: list[tuple[object, ...]]) -> None:
    clock, faults = Clock(), PlannedFaults()
    bank = Bank(clock, faults=faults)
    for step in steps:
        before = {payment_id: entry.payment for payment_id, entry in bank.books.entries.items()}
        try:
            take(bank, clock, faults, step)
        except (Refusal, KeyReused):  # nothing has changed but by time
            same = {payment_id: bank.books.entries[payment_id].payment for payment_id in before}
            assert all(
                payment == before[payment_id]
                or (before[payment_id].state in (PaymentState.HELD, PaymentState.PENDING) and payment.charged <= AMOUNT)
                for payment_id, payment in same.items()
            )
        except Failed:
            pass
        check(bank)
    posts: list[Post] = bank.due_posts()
    last = {post.event.entry.payment.payment_id: post.event.entry for post in posts}
    assert last == dict(bank.books.entries)
    assert max(Counter(post.event.event_id for post in posts).values(), default=1) == 1


def test_a_key_moves_money_once_however_its_answers_are_lost() -> None:
    faults = PlannedFaults()
    bank = Bank(Clock(), faults=faults)
    for operation in (Operation.START, Operation.CAPTURE, Operation.REFUND):
        faults.add(operation, Fault.LOST)
        faults.add(operation, Fault.UNHEARD, times=3)

    def until_answered(key: str, operation: str, *arguments: object) -> str:
        for _ in range(4):
            try:
                entry, _ = getattr(bank, operation)(key, *arguments)
            except Failed:
                continue
        entry, is_known = getattr(bank, operation)(key, *arguments)
        assert is_known
        return str(entry.payment.payment_id)

    payment_id = until_answered("1", "start", CHARGE)
    until_answered("2", "capture", payment_id)
    until_answered("3", "refund", payment_id, 30)
    assert bank.totals() == {"EUR": Totals(0, AMOUNT, 30)}
    assert len(bank.books.entries) == 1


def test_posts_come_when_they_are_due_and_again_where_they_were_not_taken() -> None:
    clock = Clock()
    bank = Bank(clock, posting=lambda event: (3, 1))
    bank.start("1", CHARGE)
    assert bank.due_posts() == []
    clock.now_us += 3
    late, early = sorted(bank.due_posts(), key=lambda post: -post.due_us)
    assert late.event == early.event
    bank.delivered(early)
    bank.not_delivered(late, 10)
    assert bank.due_posts() == []
    clock.now_us += 10
    [again] = bank.due_posts()
    assert (again.event, again.tries) == (late.event, 1)


def test_books_on_a_disk_are_as_those_in_memory(tmp_path: Path) -> None:
    store, clock = Store(tmp_path / "bank.sqlite"), Clock()
    bank = Bank(clock, books=store.books)
    with store.transaction():
        held, _ = bank.start("1", CHARGE)
        charged, _ = bank.start("2", Charge("order-2", 7, "JPY", "pm_card_visa", captures=True))
        waiting, _ = bank.start("3", Charge("order-3", 8, "JPY", "pm_card_delayed", captures=True))
        bank.refund("4", charged.payment.payment_id, 5)
    store.close()

    again = Store(tmp_path / "bank.sqlite")
    bank = Bank(clock, books=again.books)
    assert bank.totals() == {"EUR": Totals(AMOUNT, 0, 0), "JPY": Totals(0, 7, 5)}
    assert bank.start("1", CHARGE) == (held, True)
    assert [entry.charge.order_id for entry in bank.newest(2)] == ["order-3", "order-2"]
    assert len(bank.due_posts()) == 4
    clock.now_us += HOLD_US  # what was to happen by itself still does
    assert bank.look(held.payment.payment_id).payment.state is PaymentState.RELEASED
    assert bank.look(waiting.payment.payment_id).payment.state is PaymentState.CHARGED
    again.close()
