"""From rows to the service's own terms, and back. It decides nothing."""

from dataclasses import asdict, fields
from typing import Any

from services.items.orders import Cause, Encounter, Order
from services.items.orders import State as OrderState
from services.items.payments import Asked, Operation
from services.items.ports import Change
from services.items.presales import Decision, Mode, Presale, State, Terms

_PRESALE = tuple(field.name for field in fields(Presale))
_ORDER = tuple(field.name for field in fields(Order))


def asked_of(row: Any, now_us: int) -> Asked:
    """An operation."""
    return Asked(row.order_id, Operation(row.kind), row.attempt, row.key, row.calls, now_us - row.first_us)


def presale_of(row: Any) -> Presale:
    """A presale."""
    values = {name: getattr(row, name) for name in _PRESALE}
    told = {
        "terms": Terms(**row.terms),
        "state": State(row.state),
        "mode": Mode(row.mode),
        "decision": Decision(row.decision),
    }
    return Presale(**values | told)


def presale_values(presale: Presale) -> dict[str, Any]:
    """A presale's columns, but for those that only the database has."""
    return {name: getattr(presale, name) for name in _PRESALE} | {"terms": terms_value(presale.terms)}


def terms_value(terms: Terms) -> dict[str, Any]:
    """Terms as the database has them; what says nothing is left out, as it was before there was such a term."""
    return {name: value for name, value in asdict(terms).items() if name != "max_units_per_buyer" or value}


def order_of(row: Any) -> Order:
    """An order."""
    values = {name: getattr(row, name) for name in _ORDER}
    encounter = Encounter(**row.encounter) if row.encounter else None
    return Order(**values | {"state": OrderState(row.state), "cause": Cause(row.cause), "encounter": encounter})


def order_values(order: Order) -> dict[str, Any]:
    """An order's columns, but for those that only the database has."""
    encounter = asdict(order.encounter) if order.encounter else None
    return {name: getattr(order, name) for name in _ORDER} | {"encounter": encounter}


def change_of(row: Any) -> Change:
    """A line of the record."""
    return Change(row.order_id, row.actor, row.from_state, row.to_state, row.reason, row.time_us)
