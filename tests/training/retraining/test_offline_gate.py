"""The offline gate: what passes, and every way to be refused with its figure, interval and margin."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from contract.errors import InputError
from training.retraining.offline_gate import (
    Compared,
    GateMargins,
    HeldOut,
    Outcome,
    compared_samples,
    decide,
    look_random,
)

N, MERCHANTS = 240, 60
ALL = np.arange(N)
CATEGORY = ALL % 4
HELD_OUT = HeldOut(
    ALL % MERCHANTS,
    {f"category {name}": number == CATEGORY for number, name in enumerate("abcd")} | {"new merchants": ALL % 60 < 15},
)
MARGINS = GateMargins()
LEVELS = {"reward_gauc": 0.8, "reward_map": 0.7, "favours": 1.4, "prompt_accuracy": 0.9, "diversity": 0.2,
          "judge_score": 5.0, "latency": 0.1, "reward": 5.0}  # fmt: skip


def figures(changes: Mapping[str, float | np.ndarray] = {}, noise: float = 0.02) -> dict[str, Compared]:
    """Both families at the same level with noise of each merchant's, and the candidate changed by so much."""
    rng = np.random.default_rng(0)
    found = {}
    for name, level in LEVELS.items():
        live = level + noise * rng.normal(size=N)
        of_merchant = noise * level * rng.normal(size=MERCHANTS)[HELD_OUT.merchants] / 2
        found[name] = Compared(ALL, live, live + of_merchant + changes.get(name, 0.0))
    return found


def judged(changes: Mapping[str, float | np.ndarray] = {}, **more: object) -> Outcome:
    return decide(HELD_OUT, figures(changes), **{"margins": MARGINS, "judge_gauc": 0.7} | more)  # type: ignore[arg-type]


def test_an_equal_candidate_and_a_better_one_pass() -> None:
    better = {"reward_gauc": 0.1, "favours": -0.3, "judge_score": 1.0, "latency": -0.05}
    for changes in ({}, better):
        found = judged(changes)
        assert found.verdict == "pass", found.reasons
        assert found.reasons == ("no figure falls beyond its margin on 240 groups of 60 merchants",)
    same = decide(HELD_OUT, {n: Compared(ALL, c.live, c.live) for n, c in figures().items()}, MARGINS, (), 0.7)
    assert same.verdict == "pass" and same.figures["favours"]["difference"]["low"] == 0


@pytest.mark.parametrize(("name", "change", "told"), [
    ("reward_gauc", -0.06, "GAUC of its reward model on held-out picks changes by -0.06"),
    ("favours", 0.08, "cross-entropy of held-out picks by its favours changes by 0.0"),
    ("prompt_accuracy", -0.05, "prompt accuracy changes by -0.05"),
    ("diversity", -0.12, "diversity changes by -0.12"),
    ("judge_score", -0.4, "score by the judge changes by -0.4"),
    ("latency", 0.05, "time to draw changes by 0.05"),
])  # fmt: skip
def test_a_fall_beyond_the_margin_is_refused_with_figure_interval_and_margin(
    name: str, change: float, told: str
) -> None:
    found = judged({name: change})
    assert found.verdict == "refuse" and told in found.reasons[0]
    assert "[" in found.reasons[0] and "margin 0." in found.reasons[0]


def test_a_candidate_that_raises_the_reward_and_lowers_the_judge_is_refused_as_such() -> None:
    found = judged({"reward": 1.0, "judge_score": -0.5})
    assert found.verdict == "refuse" and len([r for r in found.reasons if r.startswith("score by the judge")]) == 1
    assert "while its own reward model's score changes by 1.0" in found.reasons[0]
    assert judged({"reward": -1.0}).verdict == "pass"  # its own reward decides nothing


def test_one_segment_beyond_its_margin_is_refused_though_the_whole_is_within() -> None:
    fall = np.where(CATEGORY == 2, -0.08, 0.02)
    found = judged({"prompt_accuracy": fall})
    assert found.verdict == "refuse" and found.figures["prompt_accuracy"]["difference"]["low"] > -0.03
    (reason,) = found.reasons
    assert reason.startswith("category c: prompt accuracy changes by -0.0") and reason.endswith("margin 0.045")
    new = judged({"favours": np.where(HELD_OUT.segments["new merchants"], 0.2, -0.07)})
    assert new.reasons[0].startswith("new merchants: cross-entropy")


def test_a_small_segment_is_not_looked_at_by_itself_and_said_so() -> None:
    few = replace(HELD_OUT, segments={"category rare": ALL < 9})
    found = decide(few, figures({"judge_score": np.where(ALL < 9, -2.0, 0.1)}), MARGINS, (), 0.7)
    assert found.verdict == "pass" and found.figures["judge_score"]["segments_too_small"] == ["category rare"]


def test_noise_in_many_segments_refuses_few_equal_candidates() -> None:
    refused = 0
    for seed in range(8):
        rng = np.random.default_rng(seed)
        segments = {f"category {n}": n == ALL % 8 for n in range(8)}
        noisy = {
            name: Compared(ALL, rng.normal(0.8, 0.1, N), rng.normal(0.8, 0.1, N)) for name in ("reward_gauc", "favours")
        }
        refused += decide(HeldOut(HELD_OUT.merchants, segments), noisy, MARGINS).verdict == "refuse"
    assert refused <= 1


def test_a_merchant_with_most_groups_widens_the_interval_instead_of_deciding() -> None:
    flood = HeldOut(np.where(ALL < 150, 0, ALL))
    found = decide(flood, {"judge_score": Compared(ALL, np.zeros(N), np.where(ALL < 150, 1.0, -0.4))}, MARGINS)
    assert found.figures["judge_score"]["difference"]["mean"] > 0.4 and found.verdict == "refuse"


def test_a_figure_of_few_merchants_does_not_pass_however_many_groups_it_has() -> None:
    one = HeldOut(np.zeros(N, int))
    found = decide(one, {"judge_score": Compared(ALL, np.zeros(N), np.ones(N))}, MARGINS)
    assert (found.verdict, found.reasons) == ("refuse", ("score by the judge rests on 1 merchants, 10 are needed",))
    rows = ALL[HELD_OUT.merchants < 9]
    some = figures() | {"diversity": Compared(rows, np.full(len(rows), 0.2), np.full(len(rows), 0.2))}
    (reason,) = decide(HELD_OUT, some, MARGINS, (), 0.7).reasons
    assert reason == "diversity rests on 9 merchants, 10 are needed"


@pytest.mark.parametrize(("more", "told"), [
    ({"judge_gauc": 0.51}, "the judge ranks held-out picks with a GAUC of 0.510; below 0.55 it is no judge"),
    ({"judge_gauc": float("nan")}, "it is no judge"),
    ({"problems": ["one merchant has all"]}, "one merchant has all"),
    ({"margins": GateMargins(least_groups=500)}, "only 240 groups are held out, 500 are needed"),
    ({"margins": GateMargins(diversity_floor=0.5)}, "below the floor of 0.5"),
])  # fmt: skip
def test_what_speaks_against_it_beside_the_figures(more: dict[str, object], told: str) -> None:
    found = judged(**more)
    assert found.verdict == "refuse" and told in found.reasons[0]


def test_a_figure_that_is_no_number_does_not_pass() -> None:
    found = judged({"prompt_accuracy": np.where(ALL == 3, np.nan, 0.0)})
    assert found.verdict == "refuse" and "prompt accuracy changes by nan" in found.reasons[0]


def test_two_samples_are_compared_with_an_interval_over_merchants() -> None:
    rng = np.random.default_rng(0)
    merchants = np.array([f"m{n % 40}" for n in range(400)])
    low, high = rng.normal(0.5, 0.2, 400), rng.normal(0.8, 0.2, 400)
    found = compared_samples((low, merchants), (high, merchants[::-1]))
    assert found["mean"] == pytest.approx(low.mean() - high.mean()) and -0.4 < found["low"] < found["high"] < -0.2
    few = compared_samples((low[:4], merchants[:4]), (high, merchants))
    assert few["high"] - few["low"] > found["high"] - found["low"]  # few new picks are no proof


def test_margins_out_of_range_are_refused_by_name() -> None:
    for value in (-0.1, float("nan")):
        with pytest.raises(InputError, match="judge_score"):
            GateMargins(judge_score=value)


@pytest.mark.parametrize(
    ("new", "held_out", "difference", "random"),
    [
        ((0.489, 0.565), (0.574, 0.641), (-0.132, -0.030), True),  # a poisoned turn of `make loop`, seen
        ((0.632, 0.704), (0.520, 0.594), (0.06, 0.16), False),  # an honest one
        ((0.48, 0.56), (0.49, 0.60), (-0.06, 0.03), False),  # a reward model that knows nothing yet
        ((0.52, 0.58), (0.58, 0.64), (-0.10, -0.02), False),  # a little less, and still more than nothing
        ((0.52, 0.58), (0.75, 0.80), (-0.26, -0.18), True),
    ],
)
def test_picks_at_random_are_seen_also_by_a_reward_model_that_knows_little(
    new: tuple[float, float], held_out: tuple[float, float], difference: tuple[float, float], random: bool
) -> None:
    intervals = [{"low": low, "high": high} for low, high in (new, held_out, difference)]
    assert look_random(*intervals, margin=0.1) is random
