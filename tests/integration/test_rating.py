"""A rating from its design to its report: made by training, answered on the studio's page, analysed by training."""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lab.shop.raters import Panel, ratings, write_ratings
from lab.shop.rating_check import HUMAN, PLANTED
from services.runtime.database import Database
from services.studio.adapters.tables import SCHEMA
from services.studio.asking import NOT_JUDGED, field_of
from tests.services.items.market import Market
from tests.services.running import database_threads_ended
from tests.services.studio.raters import RaterAt, Time, load
from tests.services.studio.selling import Street
from training.measurement.rating.__main__ import main
from training.measurement.rating.answers import Rated

RATERS = ("anna", "bo", "chen")


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["rating", *map(str, arguments)])
    assert main() == 0


def designed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Rated:
    """Eight sets of two methods and one gold picture; the key lies beside the folder that the page reads."""
    for n in range(17):
        Image.new("RGB", (64, 64), (15 * n, 90, 200 - 11 * n)).save(folder / f"{n}.png")
    rows: list[dict[str, Any]] = [
        {"item_id": f"{method}-{n}", "category": "coat", "method": method, "picture": f"{place + n}.png"}
        for place, method in ((0, "human"), (8, "perfusion"))
        for n in range(8)
    ]
    gold = {
        "item_id": "gold",
        "category": "coat",
        "method": "human",
        "picture": "16.png",
        "gold": {"model_realism": [0]},
    }
    (folder / "items.json").write_text(json.dumps([*rows, gold]))
    options = ["--raters-per-picture", 2, "--size-px", 64, "--draws", 400, "--origin-pictures", 4, "--seed", 3]
    call(
        monkeypatch, "design", "--items", folder / "items.json", "--out", folder / "out", "--raters", *RATERS, *options
    )
    (folder / "out" / "key.json").rename(folder / "key.json")
    return Rated.read(folder / "out" / "design.json", folder / "key.json")


def analysed(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    files = ["--design", folder / "out" / "design.json", "--key", folder / "key.json", "--ratings", folder / name]
    call(monkeypatch, "analyse", *files, "--out", folder / "report")
    report: dict[str, Any] = json.loads((folder / "report" / "report.json").read_text())
    return report


def form_of(answers: Mapping[str, Any]) -> dict[str, str]:
    """What a rater chooses on the page."""
    if "origin" in answers:
        return {"origin": answers["origin"]}
    return {field_of(name): NOT_JUDGED if score is None else str(score) for name, score in answers.items()}


async def test_what_raters_answer_on_the_page_is_what_the_analysis_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rated, clock, panel = designed(tmp_path, monkeypatch), Time(), Panel()
    quality = {"human": HUMAN, "perfusion": PLANTED}
    meant = ratings(rated, panel, quality, np.random.default_rng(5))
    market = Market(f"sqlite:///{tmp_path / 'items.sqlite'}")
    database = Database(f"sqlite:///{tmp_path / 'studio.sqlite'}", SCHEMA, timeout_s=20)
    street = Street(market, database, tmp_path / "token", clock=clock)
    await load(street, tmp_path / "out", {rater: f"the-personal-link-of-{rater}" for rater in RATERS})
    chosen = {(line["rater_id"], line["task_id"]): line["answers"] for line in meant}
    for rater in rated.design["raters"]:
        at = RaterAt(street, clock, f"the-personal-link-of-{rater['rater_id']}")
        await at.begins()
        for number, task in enumerate(rater["tasks"], 1):
            sent = await at.answers(number, form_of(chosen[rater["rater_id"], task["task_id"]]))
            assert sent.status_code == 303, re.sub("<[^>]+>", " ", sent.text)
    told = await street.studio.studies.lines(rated.design["design_id"])
    await market.database.close()
    await database.close()
    await database_threads_ended()
    write_ratings(tmp_path / "ratings.jsonl", [dict(line) for line in told])
    write_ratings(tmp_path / "meant.jsonl", meant)
    found, expected = (analysed(tmp_path, name, monkeypatch) for name in ("ratings.jsonl", "meant.jsonl"))
    for part in ("methods", "agreement", "repeats", "gold", "blinding", "counts"):
        assert found[part] == expected[part], part
    assert found["counts"]["too_fast"] == 0
    assert len(told) == sum(len(rater["tasks"]) for rater in rated.design["raters"])
    truth = sum(map(panel.expected, PLANTED)) / sum(map(panel.expected, HUMAN))
    overall = found["methods"]["perfusion"]["overall"]["ratio"]
    assert overall["low"] <= truth <= overall["high"] < 2 * overall["low"]
