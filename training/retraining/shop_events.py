"""What viewers did in the shop as rows of LAKE/shop: what training.measurement.lift reads, and which picture it was.

    event_id           string     UUID; each is there once, if whoever sends it again says the same time
    kind               string     impression, click, order or return
    item_id            string     the presale
    user_id            string     its merchant
    group_id, image_id string     the picture that was listed, and its group
    arm                string     the experiment's in which the viewer was, no item's; null outside of one
    surface, position             where it was shown; null where nothing is said
    viewer_hash        string     a pseudonym; null where nobody is known
    units              int32      of an order or a return, else null
    create_time        timestamp  when it happened
    item_create_time   timestamp  when the item was opened for sale

Knows one message; nothing about where its rows are kept.
"""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from perfusion.v1.events_pb2 import ShopEvent, ShopEventKind

_TIME = pa.timestamp("us", tz="UTC")
SHOP_SCHEMA = pa.schema([
    ("event_id", pa.string()), ("kind", pa.string()), ("item_id", pa.string()), ("user_id", pa.string()),
    ("group_id", pa.string()), ("image_id", pa.string()), ("arm", pa.string()), ("surface", pa.string()),
    ("position", pa.int32()), ("viewer_hash", pa.string()), ("units", pa.int32()), ("create_time", _TIME),
    ("item_create_time", _TIME),
])  # fmt: skip


def time_of(event: ShopEvent) -> datetime:
    """When it happened, as its row says."""
    return event.event_time.ToDatetime(UTC)


def row_of(event: ShopEvent) -> dict[str, Any]:
    """An event as a row."""
    return {
        "event_id": event.event_id, "kind": ShopEventKind.Name(event.kind).removeprefix("SHOP_EVENT_KIND_").lower(),
        "item_id": event.presale_id, "user_id": event.user_id, "group_id": event.group_id, "image_id": event.image_id,
        "arm": event.arm or None, "surface": event.surface or None, "position": event.position or None,
        "viewer_hash": event.viewer_hash or None, "units": event.units or None,
        "create_time": time_of(event), "item_create_time": event.item_create_time.ToDatetime(UTC),
    }  # fmt: skip
