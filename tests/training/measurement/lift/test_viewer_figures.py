"""The page and the lines of a report by viewers have its numbers, and say where there are none."""

from pathlib import Path

import numpy as np

from lab.shop.viewers import Crowd, viewer_table
from training.measurement.lift.plan import Plan
from training.measurement.lift.viewer_events import viewer_events_of
from training.measurement.lift.viewer_figures import viewer_text, write_viewer_figures
from training.measurement.lift.viewer_report import Report, analysed_by_viewer

PLAN = Plan("2026-01-01T00:00:00+00:00", unit="viewer", treated_share=0.5)


def report_of(viewers: int) -> Report:
    found = viewer_events_of(viewer_table(Crowd(viewers=viewers), np.random.default_rng(3)), PLAN.window_s)
    return analysed_by_viewer(found, PLAN) | {"gate": None}


def test_numbers_stand_in_the_lines_and_on_the_page(tmp_path: Path) -> None:
    report = report_of(900)
    write_viewer_figures(report, tmp_path)
    text, page = viewer_text(report), (tmp_path / "report.html").read_text()
    lift = report["metrics"]["click_through"]["lift"]
    said = f"{lift['value']:+.1%} [{lift['low']:+.1%}, {lift['high']:+.1%}]"
    assert said in text and said in page
    assert f"{lift['design_effect']:.1f}" in page and f"[{lift['fieller']['low']:+.1%}" in page
    assert f"{report['events']['arms']['control']['impression']:,}" in page
    assert "Not gated" in page and "Sample ratio: " in page and "Placebo" not in page
    assert (tmp_path / "lift.png").stat().st_size > 5_000


def test_without_any_lift_there_is_no_picture(tmp_path: Path) -> None:
    report = report_of(4)
    write_viewer_figures(report, tmp_path)
    assert "too few events" in viewer_text(report) and "too few events" in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "lift.png").exists()
