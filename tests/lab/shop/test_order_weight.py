"""The command compares weights of orders on the same markets, and says by how much each differs from none."""

import json
import sys
from pathlib import Path

import pytest

from lab.shop import order_weight
from lab.shop.order_weight import summary


def test_changes_are_of_the_same_seed_and_sales_in_shares() -> None:
    found = [
        {"0": {"picks": 0.7, "orders": 0.5, "utility": 10.0 + n, "sales": 1.0 + n},
         "1": {"picks": 0.7, "orders": 0.6, "utility": 9.9 + n, "sales": 1.1 * (1 + n)}}
        for n in range(3)
    ]  # fmt: skip
    of = summary(found, [0.0, 1.0])["1"]
    assert of["sales"]["change"] == pytest.approx({"mean": 0.1, "low": 0.1, "high": 0.1})
    assert of["utility"]["change"] == pytest.approx({"mean": -0.1, "low": -0.1, "high": -0.1})
    assert of["sales"]["mean"] == pytest.approx(2.2)
    two = summary([{w: dict.fromkeys(order_weight.FIGURES, v) for w, v in (("0", 1.0), ("1", 1 + d))} for d in (1, 3)],
                  [0, 1])  # fmt: skip
    assert two["1"]["picks"]["change"]["high"] == pytest.approx(2 + 12.7062)  # t of one degree of freedom, s/√2 = 1


def test_the_command_writes_a_report_and_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "report.json"
    given = ["order_weight", "--seeds", "2", "--weights", "0", "1", "--groups", "60", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", given)
    small = {"picks": 0.7, "orders": 0.5, "utility": 10.0, "sales": 1.0}
    monkeypatch.setattr(order_weight, "measured", lambda market, weights, seed: {f"{w:g}": small for w in weights})
    assert order_weight.main() == 0
    report = json.loads(out.read_text())
    assert len(report["markets"]) == 3 and report["seeds"] == 2
    assert (tmp_path / "report.png").stat().st_size > 5_000


@pytest.mark.parametrize("given", [["--seeds", "1"], ["--weights", "1"]])
def test_without_something_to_compare_it_is_refused(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["order_weight", *given])
    assert order_weight.main() != 0
