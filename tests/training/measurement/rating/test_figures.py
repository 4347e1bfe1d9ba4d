"""The page says what the report holds."""

from pathlib import Path

import numpy as np
import pytest

from lab.shop.raters import Panel, ratings
from training.measurement.rating.analysis import analysed
from training.measurement.rating.answers import Rated, answers_of
from training.measurement.rating.figures import as_text, write_figures


def test_exclusions_agreement_and_blinding_are_on_the_page(rated: Rated, tmp_path: Path) -> None:
    panel = Panel(careless=("b",), detects=0.9)
    lines = ratings(rated, panel, {"human": [1.0] * 6, "perfusion": [0.4] * 6}, np.random.default_rng(0))
    report = analysed(rated, answers_of(enumerate(lines, 1), rated, Path("simulated")))
    write_figures(report, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert page.count("left out") >= 1
    assert f"{report['agreement']['craft_design']['alpha']['value']:.2f} (" in page
    assert f"{report['blinding']['human']['excess']['value']:+.2f} (" in page
    assert (tmp_path / "ratios.png").stat().st_size > 5_000
    assert f"{report['methods']['perfusion']['overall']['ratio']['value']:.3f}" in as_text(report)


def test_names_are_text_on_the_page_whatever_they_hold(rated: Rated, tmp_path: Path) -> None:
    lines = ratings(rated, Panel(), {"human": [1.0] * 6, "perfusion": [0.4] * 6}, np.random.default_rng(0))
    report = analysed(rated, answers_of(enumerate(lines, 1), rated, Path("simulated")))
    report["methods"]["<script>"] = report["methods"].pop("perfusion")
    report["without_exclusions"]["<script>"] = report["without_exclusions"].pop("perfusion")
    write_figures(report, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "<script>" not in page
    assert "&lt;script&gt; against human" in page


@pytest.mark.parametrize("missing", ["origin", "repeat"])
def test_what_nobody_answered_is_left_empty(rated: Rated, tmp_path: Path, missing: str) -> None:
    lines = ratings(rated, Panel(), {"human": [1.0] * 6, "perfusion": [0.4] * 6}, np.random.default_rng(0))
    given = [of for of in answers_of(enumerate(lines, 1), rated, Path("simulated")) if of.kind != missing]
    write_figures(analysed(rated, given), tmp_path)
    assert (tmp_path / "report.html").is_file()
