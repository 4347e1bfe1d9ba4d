"""What the bank writes down, and what can go wrong with a request to it: data alone."""

from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from services.items.payments import Charge, Payment, PaymentState

SECOND_US = 1_000_000
DECLINED, NO_FUNDS = "Your card was declined.", "Your card has insufficient funds."
FIND = "find"  # beside the operations, for faults


class Fault(StrEnum):
    """What goes wrong with a request."""

    LOST = "lost"  # it does not arrive
    UNHEARD = "unheard"  # it is done, and its answer does not arrive
    BUSY = "busy"  # not done: too many requests
    IN_PROGRESS = "in_progress"  # not done: another request has its key just now
    BROKEN = "broken"  # not done: the provider failed


class Failed(Exception):
    """The request went wrong; whoever asked does not know what was done."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault


class KeyReused(Exception):
    """The key came before, with another request; nothing is done."""


class Refusal(Exception):
    """The request is refused, and nothing has changed."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class Method:
    """What pays, in tests."""

    acts: bool = False  # the buyer has to approve first
    waits: bool = False  # it is decided later
    declined: str = ""  # why it does not pay


METHODS = {
    "pm_card_visa": Method(),
    "pm_card_visa_chargeDeclined": Method(declined=DECLINED),
    "pm_card_visa_chargeDeclinedInsufficientFunds": Method(declined=NO_FUNDS),
    "pm_card_authenticationRequired": Method(acts=True),
    "pm_card_delayed": Method(waits=True),  # the last two are our own; those above are Stripe's
    "pm_card_delayedDeclined": Method(waits=True, declined=DECLINED),
}


@dataclass(frozen=True)
class Entry:
    """A payment in the books: what the provider says of it, and what it alone knows."""

    payment: Payment
    charge: Charge
    return_url: str  # where the buyer goes after acting; "" for nowhere
    begun_us: int
    decided_us: int | None = None  # when it is, if it waits
    was_held: bool = False
    refund_id: str = ""  # the latest

    @property
    def due_us(self) -> int | None:
        """When it changes by itself."""
        return self.payment.capture_before_us if self.payment.state is PaymentState.HELD else self.decided_us


@dataclass(frozen=True)
class Request:
    """What came with a key."""

    operation: str
    payment_id: str = ""
    amount: int = 0
    charge: Charge | None = None
    return_url: str = ""


@dataclass(frozen=True)
class Answer:
    """What a request came to: the payment as it was then, or a refusal."""

    request: Request
    at_us: int
    entry: Entry | None = None
    code: str = ""
    message: str = ""


@dataclass(frozen=True)
class Event:
    """A change; `kind` is the state that a payment came to, or "refunded"."""

    event_id: str
    kind: str
    entry: Entry
    at_us: int


@dataclass(frozen=True)
class Post:
    """A copy of an event that is to be delivered."""

    post_id: str
    event: Event
    due_us: int
    tries: int = 0


@dataclass(frozen=True)
class Totals:
    """Of one currency, minor units."""

    held: int = 0
    charged: int = 0
    refunded: int = 0


Faults = Callable[[str, str], Fault | None]  # operation, its key (of FIND: the payment_id) → what goes wrong
Posting = Callable[[Event], Sequence[int]]  # an event → after how many microseconds each of its copies is posted


class PlannedFaults:
    """Faults that wait for the next requests of an operation, each for one."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[Fault]] = {}

    def add(self, operation: str, fault: Fault, times: int = 1) -> None:
        self._waiting.setdefault(operation, []).extend([fault] * times)

    def __call__(self, operation: str, key: str) -> Fault | None:
        waiting = self._waiting.get(operation)
        return waiting.pop(0) if waiting else None


def at_once(event: Event) -> Sequence[int]:
    """Each event is posted once, when it happens."""
    return (0,)


@dataclass
class Books:
    """What the bank remembers."""

    entries: MutableMapping[str, Entry] = field(default_factory=dict)  # by payment_id
    answers: MutableMapping[str, Answer] = field(default_factory=dict)  # by key
    posts: MutableMapping[str, Post] = field(default_factory=dict)  # by post_id, those not delivered
