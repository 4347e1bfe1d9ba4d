"""What is to be rated: a list of items, from JSON or Parquet.

An item is

    item_id    any text, unique
    category   items are compared within it ("dress")
    method     how the picture was made ("perfusion", "human")
    picture    path of a PNG or JPEG; a relative one is relative to the list
    gold       optional: {aspect: [allowed scores]}. A gold item is no part of the comparison. Each rater sees it, and
               its answer is known: a plainly broken picture, say, with {"model_realism": [0]}

Knows the list; opens no picture.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from contract.errors import reading
from training.measurement.errors import MeasurementError
from training.measurement.rating.protocol import NAMES, SCALE


@dataclass(frozen=True)
class Item:
    """One picture, of one method."""

    item_id: str
    category: str
    method: str
    picture: Path
    gold: dict[str, list[int]] = field(default_factory=dict)  # empty: no gold item


def read_items(path: Path) -> list[Item]:
    """The list, in its own order.

    Raises:
        MeasurementError: a field is missing or of another kind, or an item_id occurs twice.
    """
    with reading(path, MeasurementError):
        rows = json.loads(path.read_text("utf-8")) if path.suffix == ".json" else pq.read_table(path).to_pylist()
        items = [_item(row, path.parent) for row in rows]
        twice = {item.item_id for item in items if [other.item_id for other in items].count(item.item_id) > 1}
        if twice:
            raise MeasurementError(f"item_id {min(twice)!r} occurs twice")
    return items


def read_raters(given: Iterable[str]) -> list[str]:
    """Names of raters, each once; one that begins with @ names a file with a rater a line."""
    raters: list[str] = []
    for name in given:
        lines = Path(name[1:]).read_text("utf-8").splitlines() if name.startswith("@") else [name]
        raters += [line.strip() for line in lines if line.strip()]
    if len(set(raters)) < len(raters):
        raise MeasurementError("a rater is named twice")
    return raters


def _item(row: Any, folder: Path) -> Item:
    texts = [row.get(name) for name in ("item_id", "category", "method", "picture")]
    if not all(isinstance(text, str) and text for text in texts):
        raise MeasurementError(f"an item needs item_id, category, method and picture, each a text; got {row!r:.200}")
    # A Parquet struct has every aspect, None where it says nothing.
    gold = {aspect: list(allowed) for aspect, allowed in (row.get("gold") or {}).items() if allowed is not None}
    for aspect, allowed in gold.items():
        if aspect not in NAMES or not allowed or not set(allowed) <= set(SCALE):
            raise MeasurementError(
                f"item {texts[0]!r}: gold must map aspects to lists of 0, 1 and 2; got {gold!r:.200}"
            )
    return Item(texts[0], texts[1], texts[2], folder / texts[3], gold)
