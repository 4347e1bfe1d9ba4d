"""What viewers do in the shop, as events: impressions and clicks come from outside, orders and returns from here.

It knows what counts as an order and a return, and no Kafka.
"""

from uuid import NAMESPACE_OID, uuid5

from perfusion.v1 import events_pb2 as pb

from services.items.orders import PAID, Cause, Order, State
from services.items.presales import Presale
from services.runtime.clock import timestamp

KINDS = {pb.SHOP_EVENT_KIND_IMPRESSION, pb.SHOP_EVENT_KIND_CLICK}  # that others may record


def event_of(before: Order | None, order: Order, presale: Presale, now_us: int) -> pb.ShopEvent | None:
    """An order counts once its money is secured; a return, when its buyer goes back on that."""
    if order.encounter is None or before is None:
        return None
    if before.state is State.PENDING and order.state in PAID:
        return _event(order, presale, pb.SHOP_EVENT_KIND_ORDER, now_us)
    was_sold = before.state in (*PAID, State.SHIPPED)
    if was_sold and order.cause in (Cause.BUYER, Cause.RETURN):
        return _event(order, presale, pb.SHOP_EVENT_KIND_RETURN, now_us)
    return None


def _event(order: Order, presale: Presale, kind: pb.ShopEventKind.ValueType, now_us: int) -> pb.ShopEvent:
    assert order.encounter is not None
    return pb.ShopEvent(
        event_id=str(uuid5(NAMESPACE_OID, f"{order.order_id}:{kind}")),
        kind=kind,
        presale_id=order.presale_id,
        user_id=order.user_id,
        group_id=presale.terms.group_id,
        image_id=presale.terms.image_id,
        surface=order.encounter.surface,
        position=order.encounter.position,
        viewer_hash=order.encounter.viewer_hash,
        units=order.units,
        event_time=timestamp(now_us),
        item_create_time=timestamp(presale.open_us),
        arm=order.encounter.arm,
    )
