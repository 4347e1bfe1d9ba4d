"""Pictures of logs and reports: a PNG each, whatever is missing in some of the rows."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from training.common.plots import plot_grid, plot_intervals, plot_lines, plot_log

INTERVAL = {"mean": 0.5, "low": 0.4, "high": 0.7}


def size_of(picture: Path) -> tuple[int, int]:
    with Image.open(picture) as opened:
        assert opened.format == "PNG"
        return opened.size


def test_a_log_has_a_panel_for_each_value_of_its_last_row(tmp_path: Path) -> None:
    rows = [{"step": 1, "s": 0.1, "loss": 1.0}, {"step": 2, "s": 0.2, "loss": 0.5, "held_out": 0.7}]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    plot_log(tmp_path / "log.jsonl", tmp_path / "log.png")
    assert size_of(tmp_path / "log.png") == (800, 300)


def test_an_interval_beside_its_point_or_without_bounds_is_drawn(tmp_path: Path) -> None:
    rows = {"beside": {"mean": 0.1, "low": 0.4, "high": 0.7}, "none": {"mean": 0.1, "low": np.nan, "high": np.nan}}
    plot_intervals({"one": rows}, {}, tmp_path / "intervals.png")
    assert min(size_of(tmp_path / "intervals.png")) > 100


def test_intervals_lines_and_grids_become_pictures(tmp_path: Path) -> None:
    plot_intervals({"one": {"a": INTERVAL, "b": INTERVAL}}, {"one": {"ceiling": 0.6}}, tmp_path / "intervals.png")
    plot_lines({"a": [(1.0, INTERVAL), (10.0, INTERVAL)]}, "groups", "GAUC", tmp_path / "lines.png")
    pictures = np.zeros((2, 8, 8, 3), np.uint8)
    plot_grid({"one": pictures, "two": pictures}, ["dress", "skirt"], tmp_path / "grid.png")
    assert all(min(size_of(tmp_path / f"{name}.png")) > 100 for name in ("intervals", "lines", "grid"))
