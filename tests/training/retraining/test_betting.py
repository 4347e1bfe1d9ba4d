"""Bets on mixed groups: equal releases are not promoted however often one looks, better ones are, one merchant decides
nothing."""

import itertools
import math
from copy import deepcopy

import numpy as np
import pytest

from training.retraining.betting import STAKES, Bets, beyond_share

SHOWN = 5


def picked_beyond(
    rng: np.random.Generator, n: int, merchants: int, gain: float = 0.0, spread: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Merchants and x of n groups: a logit of quality, of the place and of a merchant's liking for the trial.

    A few merchants have most groups. Liking has the mean `gain` and the deviation `spread`.
    """
    often = 1 / np.arange(1, merchants + 1) ** 0.7
    who = rng.choice(merchants, n, p=often / often.sum())
    likes = gain + spread * rng.normal(size=merchants)
    trial = rng.integers(2, 4, n)
    on_trial = rng.random((n, SHOWN)).argsort(1) < trial[:, None]
    utility = 1.5 * rng.normal(size=(n, SHOWN)) - 0.5 * np.arange(SHOWN) + on_trial * likes[who][:, None]
    best = np.take_along_axis(on_trial, (-(utility + rng.gumbel(size=utility.shape))).argsort(1), 1)
    picks = 1 + (rng.random(n) < 0.1)
    picked = best[:, 0] + np.where(picks == 2, best[:, 1], 0)
    return who, np.array([beyond_share(*of) for of in zip(trial, [SHOWN] * n, picked, picks, strict=True)])


def ever(who: np.ndarray, x: np.ndarray, side: str = "better", at: float = 20) -> int | None:
    """After how many groups the e-value is reached, looking after every one; None: never."""
    bets = Bets()
    for number, (merchant, beyond) in enumerate(zip(who.tolist(), x.tolist(), strict=True), 1):
        bets.add(str(merchant), beyond)
        if getattr(bets, side) >= at:
            return number
    return None


def test_200_equal_candidates_looked_at_after_every_group() -> None:
    """Few merchants with many groups, who like the first place: at most 5 % are promoted, or rolled back."""
    rng = np.random.default_rng(0)
    runs = [picked_beyond(rng, 400, 40) for _ in range(200)]
    assert sum(ever(*run) is not None for run in runs) <= 10
    assert sum(ever(*run, "worse") is not None for run in runs) <= 10


def test_merchants_who_differ_with_nothing_gained_overall_promote_nothing() -> None:
    """A product over groups instead of merchants promotes one in seven of these."""
    rng = np.random.default_rng(1)
    runs = [picked_beyond(rng, 1_500, 40, spread=1.0) for _ in range(40)]
    assert sum(ever(*run) is not None for run in runs) <= 2

    def by_group(x: np.ndarray) -> np.ndarray:
        return np.exp(np.log1p(np.outer(x, STAKES)).cumsum(0)).mean(1)

    assert sum((by_group(x) >= 20).any() for _, x in runs) >= 4


@pytest.mark.parametrize(("gain", "groups"), [(0.5, 1_200), (1.0, 400)])
def test_a_better_release_is_promoted_and_a_worse_one_rolled_back(gain: float, groups: int) -> None:
    rng = np.random.default_rng(2)
    for sign, side in ((1, "better"), (-1, "worse")):
        found = [ever(*picked_beyond(rng, groups, 100, sign * gain, 0.3), side) for _ in range(20)]
        assert sum(number is not None for number in found) >= 18


def test_one_merchant_multiplies_by_less_than_two_whatever_they_do() -> None:
    bets = Bets()
    for n in range(1_000):
        bets.add("flood", 0.6)
        bets.add("flood", 0.4 if n % 3 else 0.6)
    assert 1 < bets.better < 1 + max(STAKES) and bets.merchants == 1
    assert bets.worse > 1 - max(STAKES)


def test_before_each_group_the_expected_e_value_is_what_it_is() -> None:
    """The mean over all placings of the trial, for every number of its candidates and of picks: a martingale."""
    for trial, picks in itertools.product((1, 2, 3, 4), (1, 2, 4)):
        for history in ((), (0.6, 0.6, 0.6), (-0.4, 0.2, -0.4, -0.6), (0.6,) * 40):
            bets, of = Bets(), list(itertools.combinations(range(SHOWN), trial))
            bets.add("other", 0.5)
            for x in history:
                bets.add("merchant", x)
            afters = []
            for places in of:  # the first `picks` candidates are picked
                copy = deepcopy(bets)
                copy.add("merchant", beyond_share(trial, SHOWN, sum(place < picks for place in places), picks))
                afters.append((copy.better, copy.worse))
            assert np.mean(afters, axis=0) == pytest.approx((bets.better, bets.worse), rel=1e-12)


def test_the_order_among_merchants_changes_nothing() -> None:
    who, x = picked_beyond(np.random.default_rng(3), 300, 20)
    values = []
    for order in (np.arange(300), np.argsort(who, kind="stable")):
        bets = Bets()
        for row in order:
            bets.add(str(who[row]), float(x[row]))
        values.append(bets.better)
    assert values[0] == pytest.approx(values[1])


@pytest.mark.parametrize("x", [math.nan, math.inf, 1.0, -1.0])
def test_what_is_no_share_is_refused(x: float) -> None:
    bets = Bets()
    with pytest.raises(ValueError, match="beyond the share"):
        bets.add("a", x)
    assert (bets.better, bets.worse, bets.merchants) == (1.0, 1.0, 0)
