"""Planted ratios lie within their intervals: a few panels here, `make eval-lift` has 400."""

import json
import sys
from pathlib import Path

import pytest

from lab.shop import rating_check
from lab.shop.rating_check import HUMAN, PLANTED, panels


def test_planted_ratios_are_within_their_intervals() -> None:
    found = panels(12, PLANTED, 0)
    assert found["aspects"]["craft_design"]["truth"] < 0.85
    for cell in found["aspects"].values():
        assert cell["coverage"] >= 9 / 12
        assert abs(cell["mean"] - cell["truth"]) < 4 * cell["deviation"] / 12**0.5
    assert panels(12, HUMAN, 0)["any_difference_found"] <= 2 / 12


@pytest.mark.parametrize(("coverage", "code"), [(0.95, 0), (0.90, 1)])
def test_the_command_judges_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coverage: float, code: int
) -> None:
    cell = {"truth": 0.9, "mean": 0.9, "deviation": 0.1, "coverage": coverage}
    found = {"runs": 1, "any_difference_found": 0.0, "aspects": {"craft_design": cell}}
    monkeypatch.setattr(rating_check, "panels", lambda runs, quality, seed: found)
    monkeypatch.setattr(sys, "argv", ["rating_check", "--out", str(tmp_path / "rating.json")])
    assert rating_check.main() == code
    assert json.loads((tmp_path / "rating.json").read_text())["passed"] is (code == 0)
    assert (tmp_path / "rating.png").is_file()
