"""Lines and pages where there is little to say."""

from pathlib import Path

import numpy as np

from lab.shop.events import Visits, table
from training.measurement.lift.analysis import analysed
from training.measurement.lift.events import events_of
from training.measurement.lift.figures import as_text, write_figures
from training.measurement.lift.plan import LEAST, Plan


def test_metrics_without_enough_stores_say_so_and_draw_nothing(tmp_path: Path) -> None:
    plan = Plan("2026-01-01T00:00:00+00:00", dict.fromkeys(LEAST, 10**7))
    events = events_of(table(Visits(stores=3, impressions=500), np.random.default_rng(0)), 0)
    report = analysed(events, plan) | {"gate": None}
    write_figures(report, tmp_path)
    assert "too few stores" in as_text(report)
    assert "too few stores" in (tmp_path / "report.html").read_text()
    assert not (tmp_path / "lift.png").exists()
