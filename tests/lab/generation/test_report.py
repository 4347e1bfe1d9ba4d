"""The report on generators: shares between DPO and the best, what seeds share, and cells that do not belong."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lab.generation.report import METRICS, REWARD_METRICS, report, table
from lab.generation.splits import CATEGORIES, Rounds, Size
from lab.generation.worth import true_utility
from lab.market.attributes import complete, to_indices
from training.common.errors import ModelError
from training.common.resampling import Resampler, interval

SIZE = Size(merchants=6, prompts=5, candidates=2, pool=4, best_of=8)
MADE = {"made_with": np.array(f"something {SIZE}"), "judged_by": np.array("judges")}


@pytest.fixture(scope="module")
def rounds() -> Rounds:
    return Rounds.of("seen", SIZE)


def shown_for(rounds: Rounds, rng: np.random.Generator, candidates: int) -> np.ndarray:
    """Garments as asked, the rest at random, int8 (M, P, candidates, kinds)."""
    garments = [
        [[to_indices(complete(rounds.asked[n], rng)) for _ in range(candidates)] for n in row] for row in rounds.given
    ]
    return np.array(garments, np.int8)


def cell(rounds: Rounds, shown: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    names = [f"{prefix}{name}" for prefix in ("", "shuffled_") for name in REWARD_METRICS]
    scores = {name: rng.normal(size=shown.shape[:3]) for name in names}
    sheet = rng.integers(0, 255, (4, 16, 16, 3), dtype=np.uint8)
    return {**MADE, "shown": shown, "sheet": sheet, **scores}


def test_the_report_puts_dpo_at_nought_and_the_best_at_one(rounds: Rounds, tmp_path: Path) -> None:
    (tmp_path / "drawn").mkdir()
    pool = Rounds.of("seen", SIZE)
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        many = np.array([[to_indices(complete(a, rng)) for _ in range(SIZE.best_of)] for a in pool.asked], np.int8)
        np.savez(tmp_path / "drawn" / f"best-dpo-{seed}.npz", shown=many, **MADE)
        dpo = many[rounds.given][:, :, :2]
        of_best = true_utility(rounds, many[rounds.given])
        best = np.take_along_axis(many[rounds.given], of_best.argmax(-1)[:, :, None, None], axis=2).repeat(2, axis=2)
        for method, shown in (("dpo", dpo), ("perfusion", best), ("perfusion_plus", best)):
            np.savez(tmp_path / "drawn" / f"seen-{method}-{seed}.npz", **cell(rounds, shown, rng))
        np.savez(tmp_path / "drawn" / f"permuted-perfusion-{seed}.npz", **cell(rounds, best, rng))
    found = report(tmp_path, SIZE)
    assert json.loads(tmp_path.with_name(f"{tmp_path.name}.json").read_text()) == found
    assert found["seeds"] == [0, 1] and {"seen", "shuffled", "permuted"} <= found["splits"].keys()
    assert set(found["splits"]) - {"seen", "shuffled", "permuted"} <= set(CATEGORIES)
    seen = found["splits"]["seen"]
    perfusion, dpo = seen["rows"]["perfusion"], seen["rows"]["dpo"]
    assert dpo["taste_captured"]["mean"] == 0 and perfusion["taste_captured"]["mean"] == pytest.approx(1)
    assert perfusion["true_utility"]["mean"] == pytest.approx(seen["best_of_64_dpo"]["mean"])
    assert perfusion["win_rate_vs"]["dpo"]["mean"] + dpo["win_rate_vs"]["perfusion"]["mean"] == pytest.approx(1)
    assert perfusion["best_in_group"]["mean"] == perfusion["true_utility"]["mean"]  # all of a group alike
    assert dpo["best_in_group"]["mean"] > dpo["true_utility"]["mean"]
    assert perfusion["diversity"]["mean"] == 0 and set(METRICS) <= perfusion.keys()
    shuffled = found["splits"]["shuffled"]["rows"]
    assert shuffled["dpo"]["true_utility"]["mean"] == pytest.approx(dpo["true_utility"]["mean"])  # as much to others
    assert shuffled["perfusion"]["true_utility"]["mean"] < perfusion["true_utility"]["mean"]
    assert seen["rows"]["perfusion_plus"]["taste_captured"]["mean"] == pytest.approx(1)
    assert seen["rows"]["perfusion_plus"]["win_rate_vs"]["perfusion"]["mean"] == 0.5  # the same pictures
    assert found["phrase_order"]["perfusion"]["true_utility"]["absolute"]["mean"] == 0
    groups = found["groups_trained_on"]
    assert groups["perfusion"] > groups["dpo"] == groups["perfusion_plus"] > groups["sd"] == 0
    assert set(found["notes"]) >= {"pmg", "perfusion_plus"}
    assert {"contact_sheet.png", "true_utility.png"} <= {p.name for p in tmp_path.iterdir()}
    assert "beats DPO" in table(found)


def test_rows_of_other_seeds_are_compared_on_what_they_share_and_told_apart(rounds: Rounds, tmp_path: Path) -> None:
    (tmp_path / "drawn").mkdir()
    utilities, best = {}, {}
    for seed in (0, 1, 2):
        rng = np.random.default_rng(seed)
        many = np.array([[to_indices(complete(a, rng)) for _ in range(SIZE.best_of)] for a in rounds.asked], np.int8)
        if seed < 2:
            np.savez(tmp_path / "drawn" / f"best-dpo-{seed}.npz", shown=many, **MADE)
            best[seed] = true_utility(rounds, many[rounds.given]).max(-1)
        drawn = {"dpo": (0, 1), "sft": (1,), "spo": (1, 2)}
        for method in (method for method, seeds in drawn.items() if seed in seeds):
            shown = shown_for(rounds, rng, 2)
            utilities[method, seed] = true_utility(rounds, shown)
            np.savez(tmp_path / "drawn" / f"seen-{method}-{seed}.npz", **cell(rounds, shown, rng))
    found = report(tmp_path, SIZE)
    rows = found["splits"]["seen"]["rows"]
    assert found["seeds"] == [0, 1, 2] and rows["sft"]["seeds"] == [1] and rows["spo"]["seeds"] == [1, 2]
    sft, spo, dpo = (utilities[method, 1] for method in ("sft", "spo", "dpo"))
    assert rows["sft"]["win_rate_vs"]["dpo"]["mean"] == pytest.approx(((sft > dpo) + (sft == dpo) / 2).mean())
    assert rows["spo"]["win_rate_vs"]["dpo"]["mean"] == pytest.approx(((spo > dpo) + (spo == dpo) / 2).mean())
    captured = (sft.mean() - dpo.mean()) / (best[1].mean() - dpo.mean())
    assert rows["sft"]["taste_captured"]["mean"] == pytest.approx(captured)
    assert "taste_captured" not in rows["spo"]  # seed 2 has neither dpo nor a pool
    assert "  1 2" in table(found)


def test_intervals_resample_pairs_since_both_of_a_pair_are_shown_the_same(rounds: Rounds, tmp_path: Path) -> None:
    (tmp_path / "drawn").mkdir()
    rng = np.random.default_rng(0)
    same = cell(rounds, shown_for(rounds, rng, 2)[np.arange(6) // 2 * 2], rng)
    same["clip_score"] = rng.normal(size=(3, 5, 2)).repeat(2, axis=0)
    np.savez(tmp_path / "drawn" / "seen-sd-0.npz", **same)
    found = report(tmp_path, SIZE)["splits"]["seen"]["rows"]["sd"]["clip_score"]
    one_each = Resampler(np.arange(3))
    expected = interval(*one_each.mean(same["clip_score"][::2].mean((1, 2))[None]))
    assert found == pytest.approx(expected)


def test_a_cell_of_another_size_is_refused(rounds: Rounds, tmp_path: Path) -> None:
    (tmp_path / "drawn").mkdir()
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "drawn" / "seen-sd-0.npz", **cell(rounds, shown_for(rounds, rng, 2), rng))
    with pytest.raises(ModelError, match="seen-sd-0.npz was drawn in another size"):
        report(tmp_path, replace(SIZE, pool=5))


def test_cells_that_others_judged_are_refused(rounds: Rounds, tmp_path: Path) -> None:
    (tmp_path / "drawn").mkdir()
    rng = np.random.default_rng(0)
    for method, judges in (("sd", "old"), ("sft", "new")):
        made = cell(rounds, shown_for(rounds, rng, 2), rng) | {"judged_by": np.array(judges)}
        np.savez(tmp_path / "drawn" / f"seen-{method}-0.npz", **made)
    with pytest.raises(ModelError, match=r"not judged by the same models: .*sd-0\.npz, .*sft-0\.npz"):
        report(tmp_path, SIZE)


def test_a_report_of_nothing_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="nothing is drawn"):
        report(tmp_path, SIZE)
