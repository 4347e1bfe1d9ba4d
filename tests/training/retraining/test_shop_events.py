"""An event of the shop as a row: what it says, and null for what it does not say."""

from datetime import timedelta

import pytest

from tests.training.retraining.events import BEGIN, shop, uuid
from training.retraining.shop_events import SHOP_SCHEMA, row_of


@pytest.mark.parametrize(("kind", "units"), [("impression", None), ("click", None), ("order", 2), ("return", 1)])
def test_a_row_has_what_the_event_says(kind: str, units: int | None) -> None:
    row = row_of(shop("a", kind, 3, units or 0, place=1))
    assert list(row) == SHOP_SCHEMA.names and (row["kind"], row["units"]) == (kind, units)
    assert (row["item_id"], row["group_id"], row["image_id"]) == (uuid("item a-1"), uuid("a"), uuid("a-1"))
    assert (row["user_id"], row["surface"], row["position"], row["arm"]) == ("store-1", "search", 4, "treatment")
    assert row["create_time"] == BEGIN + timedelta(hours=2, seconds=3)
    assert row["item_create_time"] == BEGIN + timedelta(hours=1)


def test_what_the_event_does_not_say_is_null() -> None:
    silent = shop("a", "click")
    for name in ("surface", "position", "viewer_hash", "arm"):
        silent.ClearField(name)
    row = row_of(silent)
    assert [row[name] for name in ("surface", "position", "viewer_hash", "arm", "units")] == [None] * 5
