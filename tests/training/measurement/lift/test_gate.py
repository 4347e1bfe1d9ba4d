"""No lift without a gate that passed, of this very code."""

import json
from pathlib import Path

import pytest

from training.measurement.errors import MeasurementError
from training.measurement.lift import gate
from training.measurement.lift.gate import check_gate, write_gate


def test_a_gate_that_passed_opens(tmp_path: Path) -> None:
    write_gate(tmp_path / "gate.json", True, {"says": "all well"})
    assert check_gate(tmp_path / "gate.json")["says"] == "all well"


def test_none_and_one_that_did_not_pass_stay_closed(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="make eval-lift"):
        check_gate(tmp_path / "gate.json")
    write_gate(tmp_path / "gate.json", False, {"says": "biased"})
    with pytest.raises(MeasurementError, match="did not pass"):
        check_gate(tmp_path / "gate.json")
    (tmp_path / "gate.json").write_text(json.dumps({"format": "other"}))
    with pytest.raises(MeasurementError, match="perfusion-lift-gate/1"):
        check_gate(tmp_path / "gate.json")


def test_one_of_other_estimators_stays_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_gate(tmp_path / "gate.json", True, {"says": "all well"})
    changed = [1.001 * of for of in gate.probe()]
    monkeypatch.setattr(gate, "probe", lambda: changed)
    with pytest.raises(MeasurementError, match="other estimators"):
        check_gate(tmp_path / "gate.json")


def test_the_estimator_by_viewers_has_a_verdict_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "gate.json"
    write_gate(path, False, {"says": "biased"}, {"passed": True, "says": "all well"})
    assert check_gate(path, "viewer")["says"] == "all well"
    changed = [1.001 * of for of in gate.viewer_probe()]
    monkeypatch.setattr(gate, "viewer_probe", lambda: changed)
    with pytest.raises(MeasurementError, match="other estimators"):
        check_gate(path, "viewer")
