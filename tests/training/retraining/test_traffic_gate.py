"""The traffic gate: three outcomes, each with its reason; nothing is promoted by silence, gaps, floods or chance."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from contract.errors import InputError
from tests.training.retraining.lake import BEGAN, LIVE, TRIAL, mixed_row
from training.retraining.mixed_groups import MixedGroups, mixed_groups
from training.retraining.traffic_gate import Outcome, TrafficLimits, judge


def rows_of(
    n: int,
    merchants: int,
    odds: float,
    rng: np.random.Generator,
    merchant: Callable[[int], str] | None = None,
    failing: float = 0.0,
    begin: int = 0,
) -> list[dict[str, Any]]:
    """n groups in which the trial's candidates are picked with these odds against the live ones'.

    Args:
        failing: the share that the trial could not draw, so that the live release made it.
    """
    rows = []
    for number in range(begin, begin + n):
        on_trial = rng.permutation(5) < rng.integers(2, 4)
        weights = np.where(on_trial, odds, 1.0)
        picked = np.arange(5) == rng.choice(5, p=weights / weights.sum())
        who = merchant(number) if merchant else f"m{rng.integers(merchants)}"
        if failing and rng.random() < failing:
            rows.append(mixed_row(number, who, (False,) * 5, picked, arm="live"))
        else:
            rows.append(mixed_row(number, who, on_trial, picked))
    return rows


def shown(
    n: int, merchants: int, odds: float, rng: np.random.Generator, merchant: Callable[[int], str] | None = None
) -> MixedGroups:
    return mixed_groups(rows_of(n, merchants, odds, rng, merchant), LIVE, TRIAL)


def outcome(found: MixedGroups, limits: TrafficLimits | None = None, after: timedelta = timedelta(hours=1)) -> Outcome:
    return judge(found, limits or TrafficLimits(), BEGAN, BEGAN + after)


@pytest.mark.parametrize(("odds", "verdict", "reason"), [
    (3.0, "promote", "beyond their share: e-value"),
    (1 / 3, "roll back", "below their share: mirrored e-value"),
    (1.0, "undecided", "do not tell the releases apart yet"),
])  # fmt: skip
def test_picks_decide(odds: float, verdict: str, reason: str) -> None:
    found = outcome(shown(400, 40, odds, np.random.default_rng(0)))
    assert found.verdict == verdict and reason in found.reasons[0]
    assert (found.e_value >= 20) is (verdict == "promote") and found.groups <= 400
    assert found.figures["mixed_groups"] == 400


def test_the_verdict_is_that_of_looking_after_every_group() -> None:
    whole = shown(400, 40, 2.0, np.random.default_rng(1))
    at_once = outcome(whole)
    looks = (outcome(MixedGroups(whole.groups[:n])) for n in range(1, 401))
    first = next(look for look in looks if look.verdict != "undecided")
    assert (first.verdict, first.groups, first.e_value) == (at_once.verdict, at_once.groups, at_once.e_value)
    assert at_once.verdict == "promote" and at_once.groups < 400


def test_an_undecided_trial_ends_by_number_or_by_time() -> None:
    found = shown(60, 40, 1.0, np.random.default_rng(2))
    assert outcome(found).verdict == "undecided"
    by_number = outcome(found, TrafficLimits(most_groups=60))
    assert by_number.verdict == "roll back" and "undecided after 60 mixed groups" in by_number.reasons[0]
    by_time = outcome(found, after=timedelta(days=7))
    assert by_time.verdict == "roll back" and "undecided after 168 hours" in by_time.reasons[0]


def test_silence_promotes_nothing_and_ends_in_a_rollback() -> None:
    found = outcome(MixedGroups())
    assert found.verdict == "undecided" and "nothing can be said" in found.reasons[0] and found.e_value == 1
    assert outcome(MixedGroups(), after=timedelta(days=8)).verdict == "roll back"


def test_groups_that_lack_a_side_or_a_pick_promote_nothing_and_are_named() -> None:
    nobody = [mixed_row(n, f"m{n}", (False,) * 5, (True, *(False,) * 4)) for n in range(30)]
    found = outcome(mixed_groups(nobody, LIVE, TRIAL))
    assert found.verdict == "undecided" and "30 with no candidate of release 7 on trial" in found.reasons[0]
    no_live = [mixed_row(n, f"m{n}", (True,) * 5, (True, *(False,) * 4)) for n in range(30)]
    assert "30 with no candidate of the live release 6" in outcome(mixed_groups(no_live, LIVE, TRIAL)).reasons[0]
    no_picks = [mixed_row(n, f"m{n}", (True, False), (False, False)) for n in range(30)]
    assert "30 with no pick in it" in outcome(mixed_groups(no_picks, LIVE, TRIAL)).reasons[0]

    clear = shown(400, 40, 3.0, np.random.default_rng(0))
    assert outcome(clear).verdict == "promote"
    clear.unusable["no candidate of release 7 on trial"] = 60
    gaps = outcome(clear)
    assert gaps.verdict == "undecided" and gaps.e_value >= 20
    assert gaps.reasons[0].startswith(
        "13% of the mixed groups, all or the latest 100, are not mixed, 10% are allowed: 60"
    )


def test_a_trial_that_often_cannot_draw_is_not_promoted_however_good_the_rest_is() -> None:
    found = outcome(mixed_groups(rows_of(600, 40, 3.0, np.random.default_rng(0), failing=0.4), LIVE, TRIAL))
    assert found.verdict == "undecided" and found.e_value >= 20
    assert "on trial, which could not draw" in found.reasons[0] and "would promote" in found.reasons[1]


def test_a_bad_start_is_made_up_for_and_a_bad_end_is_seen() -> None:
    rng = np.random.default_rng(0)
    bad, good = rows_of(60, 40, 1.0, rng, failing=1.0), rows_of(700, 40, 3.0, rng, begin=60)
    verdicts = [outcome(mixed_groups([*bad, *good[:n]], LIVE, TRIAL)).verdict for n in (200, 400, 700)]
    assert verdicts == ["undecided", "undecided", "promote"]
    fails_now = [*good, *rows_of(50, 40, 3.0, rng, failing=0.4, begin=760)]
    assert outcome(mixed_groups(fails_now, LIVE, TRIAL)).verdict == "undecided"


def test_while_groups_are_broken_the_bets_go_on() -> None:
    rng = np.random.default_rng(1)
    first, then = rows_of(300, 40, 3.0, rng, failing=0.3), rows_of(1500, 40, 1 / 9, rng, failing=0.3, begin=300)
    assert outcome(mixed_groups(first, LIVE, TRIAL)).verdict == "undecided"
    assert outcome(mixed_groups([*first, *then], LIVE, TRIAL)).verdict == "roll back"


def test_a_flooding_merchant_decides_nothing_and_is_named_by_a_hash() -> None:
    rng = np.random.default_rng(3)
    alone = outcome(shown(800, 1, 1e9, rng, lambda _: "flood"))
    assert alone.verdict == "undecided" and alone.e_value < 2 and "all of a merchant's groups" in alone.reasons[-1]
    assert "800 of 800 groups" in alone.reasons[-1] and "flood" not in alone.reasons[-1].replace("flooding", "")
    equal = shown(300, 40, 1.0, rng).groups
    flood = shown(900, 1, 1e9, rng, lambda _: "flood").groups
    mixed = outcome(MixedGroups([group for pair in zip(flood[::3], equal, strict=True) for group in pair] + flood))
    assert mixed.verdict == "undecided" and mixed.figures["largest_share_of_a_merchant"] > 0.7


def test_few_merchants_promote_nothing_however_clear_their_picks() -> None:
    few = outcome(shown(600, 6, 1e9, np.random.default_rng(4)), TrafficLimits(promote_at=5))
    assert few.verdict == "undecided" and few.reasons[0] == "only 6 merchants are in it, 8 are needed"


def test_a_threshold_that_few_merchants_reach_stops_nothing() -> None:
    found = shown(400, 40, 3.0, np.random.default_rng(4), lambda n: f"m{n % 4 if n < 60 else n % 40}")
    limits = TrafficLimits(promote_at=3)
    looks = [outcome(MixedGroups(found.groups[:n]), limits) for n in range(1, 401)]
    early = [look for look in looks if look.e_value >= 3 and look.merchants < 8]
    assert early and {look.verdict for look in early} == {"undecided"}
    first = next(look for look in looks if look.verdict != "undecided")
    assert (first.verdict, looks[-1].verdict) == ("promote", "promote") and first.merchants >= 8
    assert (first.groups, first.e_value) == (looks[-1].groups, looks[-1].e_value)


def test_picks_at_random_or_by_place_promote_nothing() -> None:
    rng = np.random.default_rng(5)
    rows = [
        mixed_row(n, f"m{n % 30}", rng.permutation(5) < rng.integers(2, 4), (True, *(False,) * 4)) for n in range(300)
    ]
    found = outcome(mixed_groups(rows, LIVE, TRIAL))
    assert found.verdict == "undecided" and found.figures["first_place_picked"] == 1.0


@pytest.mark.parametrize("change", [
    {"promote_at": float("nan")}, {"roll_back_at": 0.5}, {"most_groups": 0}, {"most_hours": 0.0},
    {"least_merchants": 1}, {"most_broken": 1.5}, {"flood": float("nan")},
])  # fmt: skip
def test_limits_out_of_range_are_refused_by_name(change: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(change))):
        TrafficLimits(**change)
