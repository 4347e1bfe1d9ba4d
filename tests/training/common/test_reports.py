"""Reports: what is no JSON number becomes null, and a report is whole."""

import json
from pathlib import Path

import pytest

from training.common.reports import as_json, write_report


def refuse(text: str) -> float:
    raise AssertionError(f"{text} is not JSON")


def test_a_number_that_is_not_finite_is_null(tmp_path: Path) -> None:
    value = {"loss": float("inf"), "rows": [(1.5, float("nan"))], "deep": {"a": [-float("inf")]}, "text": "NaN"}
    write_report(tmp_path / "new" / "report.json", value)
    text = (tmp_path / "new" / "report.json").read_text()
    wanted = {"loss": None, "rows": [[1.5, None]], "deep": {"a": [None]}, "text": "NaN"}
    assert json.loads(text, parse_constant=refuse) == wanted
    assert json.loads(as_json(value, indent=None)) == wanted


def test_what_is_no_json_leaves_the_old_report(tmp_path: Path) -> None:
    write_report(tmp_path / "report.json", 1)
    with pytest.raises(TypeError):
        write_report(tmp_path / "report.json", object())
    assert (tmp_path / "report.json").read_text() == "1\n"
