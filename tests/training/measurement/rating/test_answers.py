"""Ratings as they come: corrected, sparse, and refused where they answer what was not asked."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from training.common.reports import write_report
from training.measurement.errors import MeasurementError
from training.measurement.rating.answers import Rated, read_answers
from training.measurement.rating.protocol import NAMES


def tasks(rated: Rated, kind: str) -> list[tuple[str, str]]:
    """(rater, task) of this kind."""
    return [
        (rater["rater_id"], task["task_id"])
        for rater in rated.design["raters"]
        for task in rater["tasks"]
        if rated.key["tasks"][task["task_id"]]["kind"] == kind
    ]


def line(rated: Rated, kind: str = "first", number: int = 0, **changes: Any) -> dict[str, Any]:
    rater, task = tasks(rated, kind)[number]
    answers: dict[str, Any] = {"origin": "ai"} if kind == "origin" else dict.fromkeys(NAMES, 1)
    told = {"design_id": rated.design["design_id"], "rater_id": rater, "task_id": task, "answers": answers}
    return told | {"dwell_ms": 5_000, "time": "2026-01-05T09:00:00Z"} | changes


def read(rated: Rated, folder: Path, *lines: dict[str, Any]) -> list[Any]:
    path = folder / "ratings.jsonl"
    path.write_text("".join(json.dumps(of) + "\n" for of in lines))
    return read_answers(path, rated)


def test_of_corrected_ratings_the_last_counts(rated: Rated, tmp_path: Path) -> None:
    later = line(rated, answers=dict.fromkeys(NAMES, 2), time="2026-01-05T09:05:00+00:00")
    earlier = line(rated, answers=dict.fromkeys(NAMES, 0))
    same_time = line(rated, answers=dict.fromkeys(NAMES, 0), time="2026-01-05T10:05:00+01:00")
    assert read(rated, tmp_path, later, earlier)[0].scores.tolist() == [2] * 6
    assert read(rated, tmp_path, later, same_time)[0].scores.tolist() == [0] * 6
    assert len(read(rated, tmp_path, later, earlier, line(rated, number=1))) == 2


def test_what_was_not_judged_is_a_gap(rated: Rated, tmp_path: Path) -> None:
    (found,) = read(rated, tmp_path, line(rated, answers={NAMES[0]: 2, NAMES[1]: None}))
    assert found.scores[0] == 2
    assert np.isnan(found.scores[1:]).all()


def test_an_origin_has_no_scores(rated: Rated, tmp_path: Path) -> None:
    (found,) = read(rated, tmp_path, line(rated, "origin"))
    assert (found.kind, found.origin) == ("origin", "ai")
    assert np.isnan(found.scores).all()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"design_id": "other"}, "other"),
        ({"rater_id": "nobody"}, "no task"),
        ({"answers": {"shoes": 1}}, "no aspect 'shoes'"),
        ({"answers": {NAMES[0]: 3}}, "must be 0, 1, 2 or null"),
        ({"answers": {NAMES[0]: True}}, "must be 0, 1, 2 or null"),
        ({"answers": {NAMES[0]: 1.0}}, "must be 0, 1, 2 or null"),
        ({"dwell_ms": -1}, "dwell_ms"),
        ({"time": "2026-01-05T09:00:00"}, "time zone"),
        ({"time": "yesterday"}, "yesterday"),
    ],
)
def test_a_line_that_fits_no_task_is_refused_with_its_place(
    rated: Rated, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(MeasurementError, match=says) as refused:
        read(rated, tmp_path, line(rated, number=1), line(rated, **changes))
    assert "ratings.jsonl:2:" in str(refused.value)


def test_origins_are_the_three_words(rated: Rated, tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match="ai, human, unsure"):
        read(rated, tmp_path, line(rated, "origin", answers={"origin": "robot"}))
    with pytest.raises(MeasurementError, match="origin"):
        read(rated, tmp_path, line(rated, "origin", answers={}))


def test_a_broken_line_is_named(rated: Rated, tmp_path: Path) -> None:
    (tmp_path / "ratings.jsonl").write_text(json.dumps(line(rated)) + "\n\n{broken\n")
    with pytest.raises(MeasurementError, match=r"ratings\.jsonl:3:"):
        read_answers(tmp_path / "ratings.jsonl", rated)


def test_a_design_that_was_changed_is_refused(rated: Rated, tmp_path: Path) -> None:
    design, key = tmp_path / "design.json", tmp_path / "key.json"
    write_report(key, rated.key)
    write_report(design, rated.design)
    assert Rated.read(design, key).protocol == rated.protocol
    changed = json.loads(design.read_text())
    changed["protocol"]["min_dwell_ms"] = 0
    write_report(design, changed)
    with pytest.raises(MeasurementError, match="changed after it was fixed"):
        Rated.read(design, key)
    with pytest.raises(MeasurementError, match="not 'perfusion-rating-design/1'"):
        Rated.read(key, key)
