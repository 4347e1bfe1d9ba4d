"""The two commands, from a list of items to a page."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lab.shop.raters import Panel, ratings, write_ratings
from training.measurement.rating.__main__ import main
from training.measurement.rating.answers import Rated


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["rating", *map(str, arguments)])
    return main()


@pytest.fixture
def items(tmp_path: Path) -> Path:
    Image.new("RGB", (40, 80), (90, 20, 200)).save(tmp_path / "a.png")
    rows = [
        {"item_id": f"{method}-{n}", "category": "coat", "method": method, "picture": "a.png"}
        for method in ("human", "perfusion")
        for n in range(6)
    ]
    (tmp_path / "items.json").write_text(json.dumps(rows))
    return tmp_path / "items.json"


def test_from_items_to_a_report(
    items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out, report = tmp_path / "rating", tmp_path / "report"
    raters = ["--raters", "a", "b", "c", "--raters-per-picture", 2, "--size-px", 96, "--draws", 200]
    assert call(monkeypatch, "design", "--items", items, "--out", out, *raters) == 0
    told = capsys.readouterr().out
    rated = Rated.read(out / "design.json", out / "key.json")
    assert rated.key["design_sha256"] in told
    assert "no gold item" in told
    assert "enlarged to 96 pixels" in told
    quality = {"human": [1.0] * 6, "perfusion": [0.5] * 6}
    write_ratings(tmp_path / "ratings.jsonl", ratings(rated, Panel(), quality, np.random.default_rng(0)))
    files = ["--design", out / "design.json", "--key", out / "key.json", "--ratings", tmp_path / "ratings.jsonl"]
    assert call(monkeypatch, "analyse", *files, "--out", report) == 0
    assert "perfusion overall" in capsys.readouterr().out
    found = json.loads((report / "report.json").read_text())
    page = (report / "report.html").read_text()
    overall = found["methods"]["perfusion"]["overall"]
    assert f"{overall['ratio']['value']:.1%}" in page
    assert found["design_sha256"] in page
    assert 'src="data:image/png;base64,' in page
    assert "http" not in page.replace("https://", "http://").replace("data:", "")  # the page needs no other
    with Image.open(report / "ratios.png") as image:
        assert image.width > 300


def test_a_refusal_is_one_line(
    items: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "design", "--items", items, "--out", tmp_path / "out", "--raters", "a") == 1
    assert capsys.readouterr().err == "no rating: a rating needs two raters at least, got 1\n"


def test_help_teaches(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        call(monkeypatch, "--help")
    told = capsys.readouterr().out
    for word in ("design.json", "key.json", "ratings.jsonl", "SHA-256", "balanced incomplete blocks"):
        assert word in told
