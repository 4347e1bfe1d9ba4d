"""A table of picks as collecting leaves it: mixed groups of a trial, in a Delta table."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

from contract.feature_schema import FeatureSchema

BEGAN = datetime(2026, 11, 26, 7, tzinfo=UTC)
LIVE, TRIAL = 6, 7
COLUMNS = pa.schema([
    ("group_id", pa.string()), ("user_id", pa.string()), ("prompt", pa.string()), ("features", pa.string()),
    ("candidates", pa.list_(pa.struct([
        ("image_id", pa.string()), ("uri", pa.string()), ("selected", pa.bool_()), ("release", pa.int64()),
        ("rank", pa.int32()),
    ]))),
    ("origin", pa.string()), ("create_time", pa.timestamp("us", "UTC")), ("release", pa.int64()),
    ("feedback_time", pa.timestamp("us", "UTC")), ("arm", pa.string()), ("trial_release", pa.int64()),
])  # fmt: skip


def mixed_row(
    n: int, merchant: str, on_trial: Iterable[bool], picked: Iterable[bool], **changes: Any
) -> dict[str, Any]:
    """The n-th group, picked from n minutes after the trial began."""
    candidates = [
        {"image_id": f"{n}-{k}", "uri": f"file:///{n}-{k}.png", "selected": bool(pick), "rank": k,
         "release": TRIAL if here else LIVE}
        for k, (here, pick) in enumerate(zip(on_trial, picked, strict=True))
    ]  # fmt: skip
    at = BEGAN + timedelta(minutes=n)
    return {
        "group_id": f"g{n:05d}", "user_id": merchant, "prompt": "dress,red", "features": "{}",
        "candidates": candidates, "origin": "feedback", "create_time": at, "release": LIVE,
        "feedback_time": at + timedelta(seconds=20), "arm": "mixed", "trial_release": TRIAL,
    } | changes  # fmt: skip


def write_lake(path: Path, rows: Iterable[Mapping[str, Any]], schema: FeatureSchema) -> Path:
    """Appends the rows to a Delta table, in no order; makes it at first."""
    content = pa.Table.from_pylist([dict(row) for row in rows][::-1], schema=COLUMNS)
    write_deltalake(str(path), content, mode="append")
    schema.write(path / "feature_schema.json")
    return path
