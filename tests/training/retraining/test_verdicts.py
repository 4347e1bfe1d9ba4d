"""Verdicts on disk: whole, readable, and refused when they say what no gate says."""

import json
from pathlib import Path

import pytest

from training.retraining.verdicts import Verdict, VerdictError, interval_text

FIGURES = {
    "e_value_of_worse": 0.125,
    "judge_score": {
        "live": 1.0,
        "difference": {"mean": 0.1, "low": -0.05, "high": 0.25, "groups": 9},
        "segments": {"new merchants": {"mean": float("nan"), "low": float("nan"), "high": float("nan")}},
    },
}


def test_a_verdict_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "verdicts" / "7-traffic.json"
    verdict = Verdict("traffic", 6, 7, "promote", ("beyond its share",), {"e": 1.5}, 21.5, 90, 30, "lake/groups", 4)
    verdict.write(path)
    assert Verdict.read(path) == verdict and json.loads(path.read_text())["table_version"] == 4
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"of_a_later_version": 1}))
    assert Verdict.read(path) == verdict


def test_its_text_has_the_decision_the_reasons_and_the_figures(tmp_path: Path) -> None:
    verdict = Verdict("offline", "a", "b", "refuse", ("one.", "two."), FIGURES, None, 9, 3, "lake", 2, "today")
    verdict.write(tmp_path / "v.json")
    lines = Verdict.read(tmp_path / "v.json").as_text().splitlines()
    assert lines[0] == "refuse: offline gate, candidate b against live a, today"
    assert lines[1:4] == ["9 groups of 3 merchants in lake@2", "- one.", "- two."]
    assert "  e value of worse: 0.125" in lines and "    difference: 0.100 [-0.050, 0.250], groups 9" in lines
    assert "      new merchants: – [–, –]" in lines  # what is not finite is null in the file
    assert interval_text({"mean": 1.0, "low": 0.5, "high": None}) == "1.000 [0.500, –]"


@pytest.mark.parametrize(("kind", "decision", "reasons"), [
    ("offline", "promote", ("r",)), ("traffic", "pass", ("r",)), ("other", "pass", ("r",)), ("offline", "pass", ()),
])  # fmt: skip
def test_what_no_gate_says_is_refused(kind: str, decision: str, reasons: tuple[str, ...]) -> None:
    with pytest.raises(VerdictError):
        Verdict(kind, 1, 2, decision, reasons)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"kind": "offline", "reasons": ["r"]}'])
def test_a_file_that_is_no_verdict_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "v.json").write_text(text)
    with pytest.raises(VerdictError, match="v.json"):
        Verdict.read(tmp_path / "v.json")
