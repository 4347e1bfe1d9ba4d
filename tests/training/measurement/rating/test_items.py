"""Lists of items and raters, from the files that people have."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.measurement.errors import MeasurementError
from training.measurement.rating.items import read_items, read_raters

ROW = {"item_id": "1", "category": "dress", "method": "human", "picture": "a/1.png"}
GOLD = {**ROW, "item_id": "2", "gold": {"model_realism": [0, 1]}}


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_a_list_is_read_from_json_and_from_parquet(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"items.{kind}"
    if kind == "json":
        path.write_text(json.dumps([ROW, GOLD]))
    else:
        pq.write_table(pa.Table.from_pylist([ROW | {"gold": None}, GOLD]), path)
    plain, gold = read_items(path)
    assert (plain.item_id, plain.category, plain.method, plain.gold) == ("1", "dress", "human", {})
    assert plain.picture == tmp_path / "a/1.png"
    assert gold.gold == {"model_realism": [0, 1]}


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([ROW, ROW], "'1' occurs twice"),
        ([{**ROW, "method": None}], "method"),
        ([{**ROW, "gold": {"shoes": [0]}}], "gold"),
        ([{**ROW, "gold": {"model_realism": [3]}}], "gold"),
        ({"items": []}, "cannot be read"),
    ],
)
def test_a_list_that_cannot_be_used_is_refused_by_name(tmp_path: Path, rows: Any, says: str) -> None:
    path = tmp_path / "items.json"
    path.write_text(json.dumps(rows))
    with pytest.raises(MeasurementError, match=says) as refused:
        read_items(path)
    assert str(path) in str(refused.value)


def test_raters_come_from_the_command_line_and_from_files(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("chen\n\n dora \n")
    assert read_raters(["anna", f"@{tmp_path / 'more.txt'}"]) == ["anna", "chen", "dora"]
    with pytest.raises(MeasurementError, match="twice"):
        read_raters(["anna", "anna"])
