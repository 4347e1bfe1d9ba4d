"""From the service's own terms to messages, the API's and Kafka's. It decides nothing."""

from collections.abc import Collection, Mapping

from google.protobuf.timestamp_pb2 import Timestamp
from perfusion.v1 import events_pb2 as events
from perfusion.v1 import items_service_pb2 as api
from perfusion.v1 import presale_pb2 as pb

from services.items.orders import ACTIVE, PAID, Order, Recipient
from services.items.orders import State as OrderState
from services.items.ports import Change, Listed
from services.items.presales import Decision, Mode, Presale, State, Terms
from services.runtime.clock import timestamp
from services.runtime.pages import token_of

_MODES = {Mode.NONE: pb.PAYMENT_MODE_UNSPECIFIED, Mode.HOLD: pb.PAYMENT_MODE_HOLD, Mode.CHARGE: pb.PAYMENT_MODE_CHARGE}
_DECISIONS = {
    Decision.NONE: pb.DECISION_UNSPECIFIED,
    Decision.PRODUCE: pb.DECISION_PRODUCE,
    Decision.REFUND: pb.DECISION_REFUND,
}
STATES = {pb.PresaleState.Value(f"PRESALE_STATE_{state.upper()}"): state for state in State}
DECISIONS = {value: decision for decision, value in _DECISIONS.items() if decision}


def presale_message(presale: Presale, counts: Mapping[OrderState, int] | None = None, stuck: int = 0) -> pb.Presale:
    """A presale; with its orders' counts, where they are given."""
    message = pb.Presale(
        presale_id=presale.presale_id,
        user_id=presale.user_id,
        etag=str(presale.version),
        terms=_terms_message(presale.terms),
        state=_presale_state(presale.state),
        payment_mode=_MODES[presale.mode],
        secured_units=presale.secured_units,
        pending_units=presale.pending_units,
        decision=_DECISIONS[presale.decision],
        decided_by=presale.decided_by,
        decide_by_time=_time(presale.decide_by_us) if presale.state is State.SETTLING else None,
        create_time=timestamp(presale.create_us),
        update_time=timestamp(presale.update_us),
        open_time=_time(presale.open_us),
    )
    if counts is not None:
        message.settlement.CopyFrom(_settlement(counts, stuck))
    return message


def _terms_message(terms: Terms) -> pb.PresaleTerms:
    return pb.PresaleTerms(
        group_id=terms.group_id,
        image_id=terms.image_id,
        title=terms.title,
        description=terms.description,
        price=pb.Money(currency=terms.currency, minor_units=terms.price),
        min_units=terms.min_units,
        max_units=terms.max_units,
        close_time=timestamp(terms.close_us),
        ships_within_days=terms.ships_within_days,
        decide_within_hours=terms.decide_within_hours,
        max_units_per_buyer=terms.max_units_per_buyer,
    )


def _settlement(counts: Mapping[OrderState, int], stuck: int) -> pb.Settlement:
    of = counts.get
    running = sum(of(state, 0) for state in (*ACTIVE, OrderState.SHIPPED))
    return pb.Settlement(
        pending=of(OrderState.PENDING, 0),
        secured=of(OrderState.SECURED, 0),
        committed=of(OrderState.COMMITTED, 0),
        shipped=of(OrderState.SHIPPED, 0),
        cancelling=of(OrderState.CANCELLING, 0),
        ended=sum(counts.values()) - running,
        stuck=stuck,
    )


def order_message(order: Order, ship_to: Recipient | None = None, *, with_action: bool = True) -> pb.Order:
    """An order, with whom it is sent to where that is given; where its buyer goes on is for its buyer alone."""
    return pb.Order(
        order_id=order.order_id,
        presale_id=order.presale_id,
        buyer_id=order.buyer_id,
        units=order.units,
        amount=pb.Money(currency=order.currency, minor_units=order.amount),
        state=_order_state(order.state),
        cause=order.cause,
        payment=pb.Payment(
            held_minor_units=order.held,
            charged_minor_units=order.charged,
            refunded_minor_units=order.refunded,
            action_url=order.action_url if with_action else "",
            failure=order.failure,
        ),
        pay_by_time=timestamp(order.pay_by_us),
        ships_by_time=timestamp(order.ships_by_us),
        delayed_to_time=_time(order.delayed_to_us) if order.state in PAID else None,
        delay_reason=order.delay_reason,
        tracking=order.tracking,
        return_by_time=_time(order.return_by_us),
        create_time=timestamp(order.create_us),
        update_time=timestamp(order.update_us),
        returned=order.returned,
        ship_to=pb.Recipient(name=ship_to.name, address=ship_to.address, email=ship_to.email) if ship_to else None,
    )


def change_message(change: Change) -> api.StateChange:
    """A line of the record."""
    return api.StateChange(
        order_id=change.order_id,
        actor=change.actor,
        from_state=change.from_state.upper(),
        to_state=change.to_state.upper(),
        reason=change.reason,
        change_time=timestamp(change.time_us),
    )


def presale_event(
    presale: Presale, before: Presale | None, actor: str, reason: str, now_us: int
) -> events.PresaleChanged:
    """What Kafka hears of a presale."""
    return events.PresaleChanged(
        presale=presale_message(presale),
        previous_state=_presale_state(before.state) if before else pb.PRESALE_STATE_UNSPECIFIED,
        actor=actor,
        reason=reason,
        change_time=timestamp(now_us),
    )


def order_event(
    order: Order, presale: Presale, before: Order | None, actor: str, reason: str, now_us: int
) -> events.OrderChanged:
    """What Kafka hears of an order."""
    return events.OrderChanged(
        order=order_message(order, with_action=False),
        previous_state=_order_state(before.state) if before else pb.ORDER_STATE_UNSPECIFIED,
        actor=actor,
        reason=reason,
        change_time=timestamp(now_us),
        user_id=presale.user_id,
        group_id=presale.terms.group_id,
        image_id=presale.terms.image_id,
    )


def presales_page(scope: tuple[str, ...], found: Listed[Presale]) -> api.ListPresalesResponse:
    """A merchant's presales; `scope` is of `presales_scope`."""
    return api.ListPresalesResponse(
        presales=map(presale_message, found.items), next_page_token=token_of(scope, found.last)
    )


def orders_page(presale_id: str, found: Listed[Order], recipients: Mapping[str, Recipient]) -> api.ListOrdersResponse:
    """A presale's orders, with whom they are sent to, as far as that is given."""
    return api.ListOrdersResponse(
        orders=[order_message(order, recipients.get(order.order_id), with_action=False) for order in found.items],
        next_page_token=token_of(orders_scope(presale_id), found.last),
    )


def changes_page(presale_id: str, found: Listed[Change]) -> api.ListChangesResponse:
    """What happened to a presale."""
    return api.ListChangesResponse(
        changes=map(change_message, found.items), next_page_token=token_of(changes_scope(presale_id), found.last)
    )


def presales_scope(user_id: str, states: Collection[State]) -> tuple[str, ...]:
    """The name of a merchant's list, for its page tokens."""
    return ("presales", user_id, *sorted(states))


def orders_scope(presale_id: str) -> tuple[str, ...]:
    """The name of a presale's list of orders."""
    return ("orders", presale_id)


def changes_scope(presale_id: str) -> tuple[str, ...]:
    """The name of a presale's record."""
    return ("changes", presale_id)


def _presale_state(state: State) -> pb.PresaleState.ValueType:
    return pb.PresaleState.Value(f"PRESALE_STATE_{state.upper()}")


def _order_state(state: OrderState) -> pb.OrderState.ValueType:
    return pb.OrderState.Value(f"ORDER_STATE_{state.upper()}")


def _time(microseconds: int) -> Timestamp | None:
    return timestamp(microseconds) if microseconds else None
