"""The whole analysis on panels whose truth is known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab.shop.raters import Panel, ratings
from tests.training.measurement.rating.conftest import items_of, rated_of
from training.measurement.errors import MeasurementError
from training.measurement.rating.analysis import analysed
from training.measurement.rating.answers import Answer, Rated, answers_of
from training.measurement.rating.protocol import NAMES, Protocol

QUALITY = {"human": [1.0] * 6, "perfusion": [1.0, 0.9, -0.2, 0.9, 1.0, 1.0]}  # worse in craft design
STEADY = Panel(picture=0.5, rater=0.2, taste=0.05, noise=0.4)


def answers(rated: Rated, panel: Panel, seed: int = 0, **options: float) -> list[Answer]:
    lines = ratings(rated, panel, QUALITY, np.random.default_rng(seed), **options)
    return answers_of(enumerate(lines, 1), rated, Path("simulated"))


@pytest.fixture(scope="module")
def rated_40() -> Rated:
    return rated_of(items_of(20, gold=4), Protocol(draws=300))


@pytest.fixture(scope="module")
def report(rated_40: Rated) -> dict[str, Any]:
    return analysed(rated_40, answers(rated_40, replace(STEADY, careless=("c",), detects=0.6)))


def test_what_was_planted_is_found_and_nothing_else(report: dict[str, Any]) -> None:
    cells = report["methods"]["perfusion"]
    expected = STEADY.expected(-0.2) / STEADY.expected(1.0)
    craft = cells["craft_design"]
    assert craft["ratio"]["low"] < expected < craft["ratio"]["high"] < 1
    assert craft["p_holm"] < 0.05 < min(of["p_holm"] for name, of in cells.items() if name in NAMES[3:])
    assert "p_holm" not in cells["overall"]
    mean = np.mean([cells[name]["mean"] for name in NAMES])
    reference = np.mean([cells[name]["reference_mean"] for name in NAMES])
    assert cells["overall"]["ratio"]["value"] == pytest.approx(mean / reference)


def test_the_careless_rater_is_left_out_and_the_ratios_with_him_stand_beside(report: dict[str, Any]) -> None:
    assert [rater for rater, of in report["gold"].items() if of["excluded"]] == ["c"]
    assert report["counts"]["raters"] == 7
    cells = report["methods"]["perfusion"]
    assert set(cells["overall"]["without_rater"]) == set("abdefgh")
    beside = report["without_exclusions"]["perfusion"]["craft_design"]["value"]
    assert beside > cells["craft_design"]["ratio"]["value"]  # chance answers are nearer to one another


def test_raters_agree_more_than_chance_and_with_themselves(report: dict[str, Any]) -> None:
    for name in NAMES:
        found = report["agreement"][name]
        assert 0 < found["alpha"]["value"] < found["alpha"]["high"] < 1
        assert found["ac2"]["value"] > 0.5
        assert sum(found["scores"]) == report["counts"]["ratings_compared"]
        again = report["repeats"][name]
        assert again["pairs"] >= 7
        assert again["equal"] > 0.5
        assert again["mean_apart"] < 0.6


def test_raters_who_know_are_found_out(report: dict[str, Any], rated_40: Rated) -> None:
    for told in report["blinding"].values():
        assert told["excess"]["low"] > 0
    blind = analysed(rated_40, answers(rated_40, STEADY))["blinding"]
    for told in blind.values():
        assert told["excess"]["low"] < 0 < told["excess"]["high"]
        assert told["answers"]["unsure"] == 0


def test_fast_ratings_are_left_out_and_counted(rated_40: Rated) -> None:
    given = answers(rated_40, STEADY)
    fast = [replace(of, dwell_ms=100) if n % 10 == 0 else of for n, of in enumerate(given)]
    found = analysed(rated_40, fast)["counts"]
    expected = sum(of.kind != "origin" for of in given[::10])
    assert found["too_fast"] == expected > 0
    assert found["answered"] == len(given)
    with pytest.raises(MeasurementError, match="too fast"):
        analysed(rated_40, [replace(of, dwell_ms=0) for of in given])


def test_repeats_and_gold_pictures_move_no_ratio(rated_40: Rated) -> None:
    given = answers(rated_40, STEADY)
    other = [
        replace(of, scores=2 - of.scores) if of.kind == "repeat" else of for of in given
    ]  # fmt: skip
    first, second = (analysed(rated_40, of)["methods"] for of in (given, other))
    assert first == second


def test_a_sparse_rating_is_analysed(rated_40: Rated) -> None:
    given = answers(rated_40, STEADY, answered=0.3)
    for answer in given[::3]:
        answer.scores[1:] = np.nan
    found = analysed(rated_40, given)
    assert all(np.isfinite(of["ratio"]["value"]) for of in found["methods"]["perfusion"].values())


def test_three_methods_are_each_compared_with_the_reference() -> None:
    rated = rated_of(items_of(6, ("diffusion", "human", "perfusion")), Protocol(draws=100))
    quality = {"human": [1.0] * 6, "perfusion": [1.0] * 6, "diffusion": [-1.0] * 6}
    lines = ratings(rated, STEADY, quality, np.random.default_rng(0))
    found = analysed(rated, answers_of(enumerate(lines, 1), rated, Path("simulated")))
    worse, equal = (found["methods"][method]["overall"]["ratio"] for method in ("diffusion", "perfusion"))
    assert worse["high"] < equal["low"]
    assert found["methods"].keys() == {"diffusion", "perfusion"}
