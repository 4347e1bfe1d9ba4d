"""Rows of a shop's events for tests: what a row does not say is usual."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

START = datetime(2026, 3, 1, tzinfo=UTC)
_TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema({
    "event_id": pa.string(), "kind": pa.string(), "item_id": pa.string(), "user_id": pa.string(), "arm": pa.string(),
    "surface": pa.string(), "position": pa.int64(), "create_time": _TIME, "item_create_time": _TIME,
    "viewer_hash": pa.string(), "units": pa.int64(),
})  # fmt: skip


def events(*rows: dict[str, Any]) -> pa.Table:
    """Impressions by viewer v of item i of store s in search, one each hour, unless a row says otherwise.

    `at` is in seconds from START.
    """
    told = []
    for number, row in enumerate(rows):
        at = row.pop("at", 3_600 * number)
        usual = {
            "event_id": f"e{number}", "kind": "impression", "item_id": "i", "user_id": "s", "arm": "control",
            "surface": "search", "position": 0, "create_time": START + timedelta(seconds=at),
            "item_create_time": START - timedelta(days=10), "viewer_hash": "v", "units": None,
        }  # fmt: skip
        told.append(usual | row)
    return pa.Table.from_pylist(told, SCHEMA)
