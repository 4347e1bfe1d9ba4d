"""The two commands, from events to a page, and the gate between them."""

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from lab.shop.events import Visits, table
from lab.shop.viewers import Crowd, viewer_table
from training.measurement.lift.__main__ import main
from training.measurement.lift.gate import write_gate
from training.measurement.lift.plan import Plan


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["lift", *map(str, arguments)])
    return main()


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shop") / "events.parquet"
    pq.write_table(table(Visits(stores=12, lift=0.3), np.random.default_rng(0)), path)
    return path


def test_from_events_to_a_report(
    events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, out, gate = tmp_path / "plan.json", tmp_path / "lift", tmp_path / "gate.json"
    rules = ["--treated-share", 0.4, "--least-conversion", 40, "--age-days", 14, 60]
    assert call(monkeypatch, "plan", "--out", plan, *rules) == 0
    assert Plan.read(plan).least["conversion"] == 40
    assert Plan.read(plan).sha256 in capsys.readouterr().out
    write_gate(gate, True, {"says": "1,000 shops <b>"})
    given = ["analyse", "--events", events, "--plan", plan, "--out", out, "--gate", gate, "--placebo", 3]
    assert call(monkeypatch, *given) == 0
    told = capsys.readouterr().out
    assert "click_through, adjusted" in told
    assert "! The plan was made after" in told
    report = json.loads((out / "report.json").read_text())
    page = (out / "report.html").read_text()
    primary = report["metrics"]["click_through"]["primary"]
    assert f"{primary['value']:+.1%} [{primary['low']:+.1%}, {primary['high']:+.1%}]" in page
    assert "1,000 shops &lt;b&gt;" in page
    assert "Placebo" in page
    assert report["gate"]["says"] == "1,000 shops <b>"
    assert (out / "lift.png").stat().st_size > 5_000


def test_without_a_gate_nothing_is_measured_unless_it_is_said(
    events: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, out = tmp_path / "plan.json", tmp_path / "lift"
    assert call(monkeypatch, "plan", "--out", plan) == 0
    given = ["analyse", "--events", events, "--plan", plan, "--out", out, "--gate", tmp_path / "none.json"]
    assert call(monkeypatch, *given) == 1
    assert "no A/A gate report" in capsys.readouterr().err
    assert not out.exists()
    assert call(monkeypatch, *given, "--ungated") == 0
    page = (out / "report.html").read_text()
    assert "Not gated" in page
    assert "This comparison is observational" in page
    assert json.loads((out / "report.json").read_text())["gate"] is None


def test_by_viewers_from_events_to_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, out, gate, events = (tmp_path / name for name in ("plan.json", "lift", "gate.json", "events.parquet"))
    pq.write_table(viewer_table(Crowd(viewers=900, lift=0.5), np.random.default_rng(0)), events)
    assert call(monkeypatch, "plan", "--out", plan, "--unit", "viewer", "--treated-share", 0.5) == 0
    given = ["analyse", "--events", events, "--plan", plan, "--out", out, "--gate", gate, "--placebo", 20]
    write_gate(gate, True, {"says": "of items"})
    assert call(monkeypatch, *given) == 1
    assert "says nothing of lifts by viewers" in capsys.readouterr().err
    write_gate(gate, True, {"says": "of items"}, {"passed": False, "says": "of viewers"})
    assert call(monkeypatch, *given) == 1
    assert "did not pass" in capsys.readouterr().err
    write_gate(gate, True, {"says": "of items"}, {"passed": True, "says": "of viewers"})
    assert call(monkeypatch, *given) == 0
    told, page = capsys.readouterr().out, (out / "report.html").read_text()
    report = json.loads((out / "report.json").read_text())
    lift = report["metrics"]["click_through"]["lift"]
    assert lift["low"] > 0 and report["unit"] == "viewer" and report["gate"]["says"] == "of viewers"
    for said in (told, page):
        assert f"{lift['value']:+.1%} [{lift['low']:+.1%}, {lift['high']:+.1%}]" in said
        assert "orders_per_viewer" in said and "The plan was made after" in said
    assert "splits of the control viewers" in page and "Sample ratio" in page
    assert report["metrics"]["orders_per_viewer"]["viewers"] == [
        report["events"]["arms"][arm]["viewers"] for arm in ("control", "treatment")
    ]
    assert (out / "lift.png").stat().st_size > 5_000


def test_help_teaches(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        call(monkeypatch, "--help")
    told = capsys.readouterr().out
    for word in ("item_create_time", "observational", "make eval-lift", "--ungated", "--unit viewer"):
        assert word in told
