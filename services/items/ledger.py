"""The ledger's mathematics: double entries of what a payment has moved. The entries of one movement sum to zero.

    provider    money charged and not refunded, at the provider (what is ours to move)
    buyers      the same money, owed to buyers until their item is shipped (negative)
    merchants   the same money, owed to merchants from then on (negative)
    held        money held and not charged; `holds` is its counter-entry

It knows no database. Entries are never changed; a correction is another movement.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from services.items.orders import Order, State


class Account(StrEnum):
    """Where an entry stands."""

    PROVIDER = "provider"
    BUYERS = "buyers"
    MERCHANTS = "merchants"
    HELD = "held"
    HOLDS = "holds"


class Movement(StrEnum):
    """Why an entry was made."""

    HOLD = "hold"
    CHARGE = "charge"
    REFUND = "refund"
    SHIP = "ship"
    RETURN = "return"


@dataclass(frozen=True)
class Entry:
    """One line, minor units of the order's currency."""

    account: Account
    movement: Movement
    amount: int


def entries_of(before: Order | None, after: Order) -> list[Entry]:
    """What an order's change has moved."""
    held, charged, refunded = (before.held, before.charged, before.refunded) if before else (0, 0, 0)
    was = before.state if before else None
    return [
        *_pair(Movement.HOLD, Account.HELD, Account.HOLDS, after.held - held),
        *_pair(Movement.CHARGE, Account.PROVIDER, Account.BUYERS, after.charged - charged),
        *(
            _pair(Movement.SHIP, Account.BUYERS, Account.MERCHANTS, after.kept)
            if after.state is State.SHIPPED and was is not State.SHIPPED
            else ()
        ),
        *(
            _pair(Movement.RETURN, Account.MERCHANTS, Account.BUYERS, before.kept)
            if before and was is State.SHIPPED and after.state is not State.SHIPPED
            else ()
        ),
        *_pair(Movement.REFUND, Account.BUYERS, Account.PROVIDER, after.refunded - refunded),
    ]


def _pair(movement: Movement, gets: Account, gives: Account, amount: int) -> Iterator[Entry]:
    if amount:
        yield Entry(gets, movement, amount)
        yield Entry(gives, movement, -amount)
