"""The gate's command writes what the lift's command asks for."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lab.shop import lift_check, trials
from lab.shop.stores import Shop
from lab.shop.trials import Scenario
from lab.shop.viewers import Crowd
from training.measurement.lift.gate import check_gate


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"gated": Scenario(Shop(stores=30), "small", gated=True), "beside": Scenario(Shop(stores=30), "also small")}
    monkeypatch.setattr(trials, "SCENARIOS", kinds)
    monkeypatch.setattr(trials, "CLICKS", (10,))
    monkeypatch.setattr(trials, "CROWDS", {"crowd": (Crowd(viewers=200), "a small crowd", True)})
    true = trials.event_by_event
    monkeypatch.setattr(
        trials, "event_by_event", lambda visits, runs, seed: true(replace(visits, stores=8), runs, seed)
    )


def call(monkeypatch: pytest.MonkeyPatch, out: Path) -> int:
    monkeypatch.setattr(sys, "argv", ["lift_check", "--runs", "4", "--out", str(out)])
    return lift_check.main()


def test_a_gate_that_passes_opens_and_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "passes", lambda found: True)
    assert call(monkeypatch, tmp_path / "gate.json") == 0
    found = check_gate(tmp_path / "gate.json")
    assert "small: bias" in found["says"]
    assert "also small" not in found["says"]
    assert "a small crowd: bias" in check_gate(tmp_path / "gate.json", "viewer")["says"]
    assert (tmp_path / "gate.png").stat().st_size > 5_000


def test_a_gate_that_does_not_is_written_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trials, "passes", lambda found: False)
    assert call(monkeypatch, tmp_path / "gate.json") == 1
    assert json.loads((tmp_path / "gate.json").read_text())["passed"] is False
    assert "the gate is closed" in capsys.readouterr().err
