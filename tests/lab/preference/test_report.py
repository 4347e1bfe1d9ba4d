"""The report on reward models: shares between the ceilings, intervals over users and seeds, what is written."""

import json
from pathlib import Path

import numpy as np
import pytest

from lab.preference.report import RoundsWithTruth, measure, report, table
from training.common.errors import ModelError
from training.common.metrics import group_auc

G, K, USERS = 300, 5, 40


@pytest.fixture
def test_set() -> RoundsWithTruth:
    """Choices by a taste that the features reveal in part."""
    rng = np.random.default_rng(0)
    common, known, hidden = rng.normal(0, 1, (3, G, K))
    full = common + 1.5 * known + hidden
    picked = (full + rng.gumbel(size=(G, K))).argmax(1)
    selected = np.arange(K) == picked[:, None]
    truth = {"no_user": common, "features": common + 1.5 * known, "full": full}
    usable = np.ones(G + 2, bool)
    usable[[3, 200]] = False  # two of one class
    categories = np.where(np.arange(G) % 3 == 0, "coat", "dress")
    return RoundsWithTruth(selected, np.ones((G, K), bool), rng.integers(USERS, size=G), categories, truth, usable, 2)


def as_scored(test: RoundsWithTruth, scores: np.ndarray) -> np.ndarray:
    """Scores of the usable groups (G, K) among those of all groups."""
    whole = np.zeros((len(test.usable), K))
    whole[test.usable] = scores
    return whole


def test_the_ceilings_have_the_shares_nought_and_one(test_set: RoundsWithTruth) -> None:
    scores = {name: [as_scored(test_set, test_set.truth[name])] for name in ("no_user", "features")}
    found = measure(test_set, scores)
    assert found["rows"]["no_user"]["share_of_ceiling"] == 0 and found["rows"]["features"]["share_of_ceiling"] == 1
    assert found["ceilings"]["no_user"] < found["ceilings"]["features"] < found["ceilings"]["full"]
    assert found["ceilings"]["full"] == group_auc(test_set.truth["full"], test_set.selected).mean()
    assert (found["groups"], found["dropped_groups"]) == (G, 2)


def test_a_lead_is_drawn_in_pairs(test_set: RoundsWithTruth) -> None:
    """Two models that differ a little on every group: their intervals overlap, their difference is certain."""
    better = test_set.truth["features"]
    worse = better + 0.3 * np.random.default_rng(2).normal(0, 1, (G, K))
    scores = {"perfusion_rm": [as_scored(test_set, better)], "pickscore": [as_scored(test_set, worse)]}
    found = measure(test_set, scores)
    lead, rows = found["lead_of_perfusion_rm"]["pickscore"], found["rows"]
    assert lead["mean"] == pytest.approx(rows["perfusion_rm"]["gauc"]["mean"] - rows["pickscore"]["gauc"]["mean"])
    width = rows["perfusion_rm"]["gauc"]["high"] - rows["perfusion_rm"]["gauc"]["low"]
    assert lead["high"] - lead["low"] < width


def test_scores_that_are_not_finite_are_refused(test_set: RoundsWithTruth) -> None:
    with pytest.raises(ModelError, match="hpsv2 gave scores that are not finite"):
        measure(test_set, {"hpsv2": [as_scored(test_set, np.full((G, K), np.nan))]})


def test_a_category_is_its_groups_only(test_set: RoundsWithTruth) -> None:
    coats = test_set.only(test_set.categories == "coat")
    assert set(coats.categories) == {"coat"} and len(coats.selected) == 100
    scores = as_scored(test_set, test_set.truth["full"])
    expected = group_auc(test_set.truth["full"], test_set.selected)[test_set.categories == "coat"].mean()
    assert measure(coats, {"clip_h": [scores]})["rows"]["clip_h"]["gauc"]["mean"] == pytest.approx(expected)


def test_the_report_holds_every_finished_cell(test_set: RoundsWithTruth, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no finished run"):
        report(tmp_path, {"industrial": test_set})
    rng = np.random.default_rng(3)
    for seed in (0, 1):
        for of, model in (("", "perfusion_rm"), ("-6000", "perfusion_rm"), ("", "clip_h")):
            folder = tmp_path / "runs" / f"industrial{of}-{model}-{seed}"
            folder.mkdir(parents=True)
            scores = as_scored(test_set, test_set.truth["features"] + rng.normal(0, 1, (G, K)))
            np.savez(folder / "scores.npz", industrial=scores, industrial_unseen=scores, industrial_shuffled=scores)
            (folder / "result.json").write_text(json.dumps({"training_groups": 6_000 if of else 58_000}))
    found = report(tmp_path, {"industrial": test_set, "industrial_unseen": test_set})
    assert json.loads(tmp_path.with_name(f"{tmp_path.name}.json").read_text()) == found
    assert found["seeds"] == [0, 1]
    names = {"industrial", "industrial_unseen", "industrial_shuffled", "coat", "dress"}
    assert set(found["sets"]) == names
    assert all(set(found["sets"][name]["rows"]) == {"perfusion_rm", "clip_h"} for name in names)
    assert [row["groups"] for row in found["learning_curve"]["industrial"]] == [6_000, 58_000]
    for picture in ("gauc.png", "categories.png", "learning_curve.png"):
        assert (tmp_path / picture).stat().st_size > 5_000
    assert "industrial_unseen: 300 groups, 2 dropped" in table(found)
