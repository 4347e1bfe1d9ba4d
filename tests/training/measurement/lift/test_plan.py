"""A plan is fixed once, and says what it is."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from training.measurement.errors import MeasurementError
from training.measurement.lift.plan import LEAST, Plan

NOW = "2026-01-01T00:00:00+00:00"


def test_a_plan_survives_its_file_and_knows_its_digest(tmp_path: Path) -> None:
    plan = Plan(NOW, {**LEAST, "conversion": 77}, treated_share=0.4, age_days=(3, 30))
    plan.write(tmp_path / "plan.json")
    found = Plan.read(tmp_path / "plan.json")
    assert found == plan
    assert found.sha256 == hashlib.sha256((tmp_path / "plan.json").read_bytes()).hexdigest()
    with pytest.raises(MeasurementError, match="not changed once it is fixed"):
        replace(plan, window_s=0).write(tmp_path / "plan.json")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"least": {"click_through": 1}}, "least must give"),
        ({"least": dict.fromkeys(LEAST, 0)}, "1 or more"),
        ({"age_days": (28, 7)}, "ascend"),
        ({"treated_share": 1.0}, "between 0 and 1"),
        ({"created": "2026-01-01T00:00:00"}, "time zone"),
    ],
)
def test_rules_that_are_none_are_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(MeasurementError, match=says):
        Plan(**{"created": NOW} | changes)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "format is missing|cannot be read"),
        (json.dumps({"format": "perfusion-lift-plan/1", "created": NOW, "shoes": 1}), "no setting 'shoes'"),
        (json.dumps({"format": "other", "created": NOW}), "no perfusion-lift-plan/1"),
    ],
)
def test_another_file_is_refused_by_name(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(MeasurementError, match=says) as refused:
        Plan.read(tmp_path / "plan.json")
    assert "plan.json" in str(refused.value)
