"""What a provider of payments is asked to do, and what it says of a payment.

A payment is one order's. What the provider answers is always the whole payment as it is then, so an answer that comes
twice, late, or by another way (a posted event) says nothing new. It knows no provider, and no order's state.
"""

from dataclasses import dataclass
from enum import StrEnum


class Operation(StrEnum):
    """What the provider is asked to do with an order's payment."""

    START = "start"  # hold the money, or charge it
    CAPTURE = "capture"  # charge what is held
    RELEASE = "release"  # let go of what is held, or of a payment that has not ended
    REFUND = "refund"  # give back all that is charged
    LOOK = "look"  # say how the payment stands


class PaymentState(StrEnum):
    """Where a payment stands, by the provider."""

    PENDING = "pending"  # the buyer has to act, or the provider to decide
    HELD = "held"  # its money waits to be captured
    CHARGED = "charged"  # its money was taken; refunds are told by `refunded`
    RELEASED = "released"  # it ended, and no money was taken
    FAILED = "failed"  # the provider refused it, and no money was taken


ENDED = (PaymentState.RELEASED, PaymentState.FAILED)


@dataclass(frozen=True)
class Charge:
    """What is asked of a buyer."""

    order_id: str
    amount: int  # minor units
    currency: str  # ISO 4217
    payment_method: str  # the provider's name of what pays
    captures: bool  # whether the money is charged at once, or held first


@dataclass(frozen=True)
class Payment:
    """A payment as the provider has it now. Amounts are minor units of the order's currency."""

    payment_id: str  # the provider's
    state: PaymentState
    held: int = 0  # not captured
    charged: int = 0  # in all, refunds included
    refunded: int = 0  # of that
    capture_before_us: int | None = None  # microseconds since 1970 UTC, where money is held
    action_url: str = ""  # where the buyer goes on; "" where there is nothing to do
    failure: str = ""  # why it was refused, for people


@dataclass(frozen=True)
class Asked:
    """An operation that is due, claimed for one caller."""

    order_id: str
    kind: Operation
    attempt: int
    key: str
    calls: int  # this one included
    age_us: int  # since it was asked first
