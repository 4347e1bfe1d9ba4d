"""The provider's books: what is held, charged and refunded, by the rules of a provider of cards' payments.

- The work of a key is done once. The key again is answered as it was the first time, refusals too; with another
  request it does nothing. Keys are remembered for a day.
- A hold runs out after a week. A payment may wait for the buyer to act, or be decided later (METHODS).
- No more is refunded than was charged.
- Each change is an event, which is posted: late, twice, out of order, as `posting` says.
- A request, or its answer, may be lost (`faults`).

It reads no clock of its own and does no input or output; its books are mappings, which may lie on a disk.
"""

import heapq
import uuid
from collections.abc import Callable
from dataclasses import replace

from deploy.local.payments.books import (
    FIND,
    METHODS,
    SECOND_US,
    Answer,
    Books,
    Entry,
    Event,
    Failed,
    Fault,
    Faults,
    KeyReused,
    PlannedFaults,
    Post,
    Posting,
    Refusal,
    Request,
    Totals,
    at_once,
)
from services.items.payments import Charge, Operation, Payment, PaymentState
from services.runtime.clock import Clock, now_us

DAY_US = 86_400 * SECOND_US
HOLD_US = 7 * DAY_US  # as card networks have it
DELAY_US = 10 * SECOND_US
NOT_APPROVED = "It was not approved."


class Bank:
    """Args:
    pages: an address to which "/" and a payment_id are added: there the buyer acts.
    hold_us: how long money is held.
    delay_us: how long a payment waits that is decided later.
    keys_last_us: how long keys are remembered.
    """

    def __init__(
        self,
        clock: Clock = now_us,
        *,
        books: Books | None = None,
        faults: Faults | None = None,
        posting: Posting = at_once,
        pages: str = "https://payments.invalid/actions",
        hold_us: int = HOLD_US,
        delay_us: int = DELAY_US,
        keys_last_us: int = DAY_US,
    ) -> None:
        self.books = books or Books()
        self.faults: Faults = faults or PlannedFaults()
        self.posting = posting
        self._clock, self._pages = clock, pages
        self._hold_us, self._delay_us, self._keys_last_us = hold_us, delay_us, keys_last_us
        self._alarms: list[tuple[int, str]] = []  # (due, payment_id); one that was moved rings for nothing
        for payment_id, entry in self.books.entries.items():
            self._set_alarm(payment_id, entry)

    def start(self, key: str, charge: Charge, return_url: str = "") -> tuple[Entry, bool]:
        """The payment, and whether the key came before; a payment that is declined is FAILED.

        Raises as all that takes a key: Refusal, KeyReused, Failed.
        """
        request = Request(Operation.START, charge=charge, return_url=return_url)
        return self._once(key, request, lambda: self._start(charge, return_url))

    def capture(self, key: str, payment_id: str) -> tuple[Entry, bool]:
        return self._once(key, Request(Operation.CAPTURE, payment_id), lambda: self._capture(payment_id))

    def release(self, key: str, payment_id: str) -> tuple[Entry, bool]:
        return self._once(key, Request(Operation.RELEASE, payment_id), lambda: self._release(payment_id))

    def refund(self, key: str, payment_id: str, amount: int) -> tuple[Entry, bool]:
        request = Request(Operation.REFUND, payment_id, amount)
        return self._once(key, request, lambda: self._refund(payment_id, amount))

    def find(self, payment_id: str) -> Entry:
        """Raises Refusal, Failed."""
        fault = self.faults(FIND, payment_id)
        if fault is not None:
            raise Failed(fault)
        return self.look(payment_id)

    def of_order(self, order_id: str) -> Entry | None:
        """Raises Failed, as `find` does."""
        fault = self.faults(FIND, order_id)
        if fault is not None:
            raise Failed(fault)
        self.pass_time()
        return next((entry for entry in self.books.entries.values() if entry.charge.order_id == order_id), None)

    def look(self, payment_id: str) -> Entry:
        """As `find`, for those to whom nothing goes wrong."""
        self.pass_time()
        entry = self.books.entries.get(payment_id)
        if entry is None:
            raise Refusal("resource_missing", f"No such payment: {payment_id!r}")
        return entry

    def act(self, payment_id: str, approves: bool) -> Entry:
        """The buyer approves, or does not; nothing comes of it where the payment does not wait for that."""
        entry = self.look(payment_id)
        if not entry.payment.action_url:
            return entry
        if not approves:
            return self._change(entry, state=PaymentState.FAILED, action_url="", failure=NOT_APPROVED)
        return self._pay(replace(entry, payment=replace(entry.payment, action_url="")))

    def pass_time(self) -> None:
        """Brings about what is due: holds run out, waiting payments are decided."""
        now = self._clock()
        while self._alarms and self._alarms[0][0] <= now:
            _, payment_id = heapq.heappop(self._alarms)
            entry = self.books.entries[payment_id]
            if entry.due_us is None or entry.due_us > now:
                continue
            if entry.payment.state is PaymentState.HELD:
                self._change(entry, state=PaymentState.RELEASED, held=0, capture_before_us=None)
            else:
                self._decide(replace(entry, decided_us=None))

    def totals(self) -> dict[str, Totals]:
        """By currency, as the provider has them."""
        self.pass_time()
        sums: dict[str, Totals] = {}
        for entry in self.books.entries.values():
            payment, so_far = entry.payment, sums.get(entry.charge.currency, Totals())
            sums[entry.charge.currency] = Totals(
                so_far.held + payment.held, so_far.charged + payment.charged, so_far.refunded + payment.refunded
            )
        return sums

    def due_posts(self) -> list[Post]:
        """What is to be delivered now, in the order in which it is due."""
        self.pass_time()
        now = self._clock()
        return sorted((post for post in self.books.posts.values() if post.due_us <= now), key=lambda post: post.due_us)

    def delivered(self, post: Post) -> None:
        self.books.posts.pop(post.post_id, None)

    def not_delivered(self, post: Post, again_after_us: int) -> None:
        """It is posted again later."""
        self.books.posts[post.post_id] = replace(post, due_us=self._clock() + again_after_us, tries=post.tries + 1)

    def _once(self, key: str, request: Request, work: Callable[[], Entry]) -> tuple[Entry, bool]:
        fault = self.faults(request.operation, key)
        if fault not in (None, Fault.UNHEARD):
            raise Failed(fault)
        known = self.books.answers.get(key)
        if known is not None and self._clock() - known.at_us >= self._keys_last_us:
            known = None
        if known is not None and known.request != request:
            raise KeyReused
        answer = known or self._answer(request, work)
        self.books.answers[key] = answer
        if fault is not None:
            raise Failed(fault)
        if answer.entry is None:
            raise Refusal(answer.code, answer.message)
        return answer.entry, known is not None

    def _answer(self, request: Request, work: Callable[[], Entry]) -> Answer:
        try:
            return Answer(request, self._clock(), work())
        except Refusal as refusal:
            return Answer(request, self._clock(), None, refusal.code, refusal.message)

    def _start(self, charge: Charge, return_url: str) -> Entry:
        method = METHODS.get(charge.payment_method)
        if method is None:
            raise Refusal("resource_missing", f"No such payment method: {charge.payment_method!r}")
        if charge.amount < 1:
            raise Refusal("parameter_invalid_integer", "The amount must be at least 1.")
        payment = Payment(f"pi_{uuid.uuid4().hex}", PaymentState.PENDING)
        entry = Entry(payment, charge, return_url, self._clock())
        if method.acts:
            return self._change(entry, action_url=f"{self._pages}/{payment.payment_id}")
        if method.waits:
            return self._change(replace(entry, decided_us=self._clock() + self._delay_us))
        return self._decide(entry)

    def _decide(self, entry: Entry) -> Entry:
        declined = METHODS[entry.charge.payment_method].declined
        return self._change(entry, state=PaymentState.FAILED, failure=declined) if declined else self._pay(entry)

    def _pay(self, entry: Entry) -> Entry:
        amount = entry.charge.amount
        if entry.charge.captures:
            return self._change(entry, state=PaymentState.CHARGED, charged=amount)
        # Whole seconds, as providers have it.
        until_us = (self._clock() + self._hold_us) // SECOND_US * SECOND_US
        entry = replace(entry, was_held=True)
        return self._change(entry, state=PaymentState.HELD, held=amount, capture_before_us=until_us)

    def _capture(self, payment_id: str) -> Entry:
        entry = self._in_state(payment_id, "captured", PaymentState.HELD)
        return self._change(
            entry, state=PaymentState.CHARGED, held=0, charged=entry.payment.held, capture_before_us=None
        )

    def _release(self, payment_id: str) -> Entry:
        entry = self._in_state(payment_id, "canceled", PaymentState.HELD, PaymentState.PENDING, PaymentState.FAILED)
        if entry.decided_us is not None:
            raise Refusal("payment_intent_unexpected_state", "The payment is being processed and cannot be canceled.")
        return self._change(
            entry, state=PaymentState.RELEASED, held=0, capture_before_us=None, action_url="", failure=""
        )

    def _refund(self, payment_id: str, amount: int) -> Entry:
        entry = self._in_state(payment_id, "refunded", PaymentState.CHARGED)
        left = entry.payment.charged - entry.payment.refunded
        if not 1 <= amount <= left:
            raise Refusal("charge_already_refunded" if left == 0 else "amount_too_large", f"{left} can be refunded.")
        entry = replace(entry, refund_id=f"re_{uuid.uuid4().hex}")
        return self._change(entry, "refunded", refunded=entry.payment.refunded + amount)

    def _in_state(self, payment_id: str, what: str, *states: PaymentState) -> Entry:
        entry = self.look(payment_id)
        if entry.payment.state not in states:
            message = f"The payment cannot be {what}: it is {entry.payment.state}."
            raise Refusal("payment_intent_unexpected_state", message)
        return entry

    def _change(self, entry: Entry, kind: str = "", **changed: object) -> Entry:
        """Writes it down, and posts it."""
        changed_to = replace(entry, payment=replace(entry.payment, **changed))  # type: ignore[arg-type]
        payment = changed_to.payment
        self.books.entries[payment.payment_id] = changed_to
        self._set_alarm(payment.payment_id, changed_to)
        now = self._clock()
        event = Event(f"evt_{uuid.uuid4().hex}", kind or payment.state.value, changed_to, now)
        for number, after_us in enumerate(self.posting(event)):
            post = Post(f"{event.event_id}_{number}", event, now + after_us)
            self.books.posts[post.post_id] = post
        return changed_to

    def _set_alarm(self, payment_id: str, entry: Entry) -> None:
        if entry.due_us is not None:
            heapq.heappush(self._alarms, (entry.due_us, payment_id))

    def newest(self, most: int) -> list[Entry]:
        """The latest payments, the newest first."""
        self.pass_time()
        return [self.books.entries[payment_id] for payment_id in reversed(list(self.books.entries)[-most:])]
