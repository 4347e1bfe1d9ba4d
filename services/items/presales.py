"""A presale's life: its states, who may change them, and what the clock does to it.

    DRAFT → OPEN → CLOSING → SETTLING → PRODUCING → SHIPPED
      ↓       └───────┴─────────┴───────────┴────→ REFUNDING → REFUNDED
    CANCELLED

A sale that closes waits in CLOSING for payments under way. In SETTLING the paid units are counted and it is decided,
once: from min_units on the item is made; below, its merchant may decide for a while, and without a decision the buyers
are refunded. It knows no database, provider or clock: `now_us` is given, by the database's clock.
"""

from dataclasses import dataclass, fields, replace
from enum import StrEnum

from services.runtime.errors import FailedPrecondition

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
MOST_DAYS_ON_SALE = 180


class State(StrEnum):
    """Where a presale stands; the API says what each means."""

    DRAFT = "draft"
    OPEN = "open"
    CLOSING = "closing"
    SETTLING = "settling"
    PRODUCING = "producing"
    SHIPPED = "shipped"
    REFUNDING = "refunding"
    REFUNDED = "refunded"
    CANCELLED = "cancelled"


class Decision(StrEnum):
    """What becomes of a sale that has closed."""

    NONE = ""
    PRODUCE = "produce"
    REFUND = "refund"


class Mode(StrEnum):
    """How orders are paid: held first, or charged at once."""

    NONE = ""
    HOLD = "hold"
    CHARGE = "charge"


OVER = (State.SHIPPED, State.REFUNDED, State.CANCELLED)
ENDING = (State.PRODUCING, State.REFUNDING)  # until every order has ended
CANCELLABLE = (State.OPEN, State.CLOSING, State.SETTLING)


@dataclass(frozen=True)
class Terms:
    """What is sold, and how; the API says the limits."""

    group_id: str
    image_id: str
    title: str
    description: str
    currency: str
    price: int  # minor units a unit
    min_units: int
    max_units: int
    close_us: int
    ships_within_days: int
    decide_within_hours: int
    max_units_per_buyer: int = 0  # 0: no limit


@dataclass(frozen=True)
class Presale:
    """An item on sale. `version` counts its changes; orders' counts are none."""

    presale_id: str
    user_id: str
    terms: Terms
    create_us: int
    update_us: int
    number: int = 0  # its place among its merchant's
    version: int = 1
    state: State = State.DRAFT
    mode: Mode = Mode.NONE
    open_us: int = 0
    secured_units: int = 0
    pending_units: int = 0
    decision: Decision = Decision.NONE
    decided_by: str = ""
    decide_by_us: int = 0
    decided_us: int = 0

    @property
    def units_left(self) -> int:
        """Units that can still be ordered."""
        return self.terms.max_units - self.secured_units - self.pending_units


def opened(presale: Presale, now_us: int, hold_us: int) -> Presale:
    """On sale. Its money is held if it can all be captured within `hold_us` of the first order, else charged.

    Raises:
        FailedPrecondition: it is no draft, or would close in the past or too far ahead.
    """
    _require(presale, (State.DRAFT,), "be opened")
    ahead = presale.terms.close_us - now_us
    if not 0 < ahead <= MOST_DAYS_ON_SALE * DAY_US:
        raise FailedPrecondition(
            f"terms.close_time: must be ahead, by at most {MOST_DAYS_ON_SALE} days, when the sale is opened",
            field="terms.close_time",
        )
    lasts = ahead + presale.terms.decide_within_hours * HOUR_US
    return replace(presale, state=State.OPEN, mode=Mode.HOLD if lasts < hold_us else Mode.CHARGE, open_us=now_us)


def edited(presale: Presale, terms: Terms) -> Presale:
    """A draft with other terms."""
    _require(presale, (State.DRAFT,), "be changed")
    return replace(presale, terms=terms)


def differing(before: Terms, after: Terms) -> list[str]:
    """The terms that differ, by the API's names."""
    names = {"close_us": "close_time", "currency": "price"}
    found = (names.get(f.name, f.name) for f in fields(Terms) if getattr(before, f.name) != getattr(after, f.name))
    return list(dict.fromkeys(found))


def cancelled(presale: Presale) -> Presale:
    """Taken back by its merchant: a draft at once, a sale by refunds."""
    if presale.state is State.DRAFT:
        return replace(presale, state=State.CANCELLED)
    _require(presale, CANCELLABLE, "be cancelled")
    return replace(presale, state=State.REFUNDING)


def failed(presale: Presale) -> Presale:
    """Its production is given up; what has been shipped stays so."""
    _require(presale, (State.PRODUCING,), "fail")
    return replace(presale, state=State.REFUNDING)


def decided(presale: Presale, decision: Decision, by: str, now_us: int) -> Presale:
    """What becomes of it, once.

    Raises:
        FailedPrecondition: it is not SETTLING; of one that was decided otherwise, too.
    """
    _require(presale, (State.SETTLING,), "be decided")
    state = State.PRODUCING if decision is Decision.PRODUCE else State.REFUNDING
    return replace(presale, state=state, decision=decision, decided_by=by, decided_us=now_us)


def advanced(presale: Presale, now_us: int, *, shipped: int, active: int) -> Presale:
    """As the clock and its orders make it, one step further; the same where there is nothing to do.

    Args:
        shipped: orders shipped and kept.
        active: orders that have not ended: pending, secured, committed or cancelling.
    """
    if presale.state is State.OPEN and now_us >= presale.terms.close_us:
        return replace(presale, state=State.CLOSING)
    if presale.state is State.CLOSING and presale.pending_units == 0:
        decide_by = now_us + presale.terms.decide_within_hours * HOUR_US
        return replace(presale, state=State.SETTLING, decide_by_us=decide_by)
    if presale.state is State.SETTLING:
        if presale.secured_units >= presale.terms.min_units:
            return decided(presale, Decision.PRODUCE, "threshold", now_us)
        if now_us >= presale.decide_by_us or presale.secured_units == 0:
            return decided(presale, Decision.REFUND, "clock", now_us)
    if presale.state in ENDING and active == 0:
        return replace(presale, state=State.SHIPPED if shipped else State.REFUNDED)
    return presale


def check_sells(presale: Presale, units: int, bought: int, now_us: int) -> None:
    """Raises FailedPrecondition where the sale does not take an order of so many units.

    Args:
        bought: units that this buyer has ordered before.
    """
    if presale.state is not State.OPEN or now_us >= presale.terms.close_us:
        raise FailedPrecondition("presale_id: the sale takes no orders (any more)", field="presale_id")
    if units > presale.units_left:
        error = FailedPrecondition(f"units: {presale.units_left} are left", field="units")
        error.metadata["units_left"] = str(presale.units_left)
        raise error
    most = presale.terms.max_units_per_buyer
    if most and units > most - bought:
        left = max(0, most - bought)
        error = FailedPrecondition(f"units: one buyer may order {most}, this one {left} more", field="units")
        error.metadata["buyer_units_left"] = str(left)
        raise error


def _require(presale: Presale, states: tuple[State, ...], what: str) -> None:
    if presale.state not in states:
        raise FailedPrecondition(f"presale_id: what is {presale.state.upper()} cannot {what}", field="presale_id")
