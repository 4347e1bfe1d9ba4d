"""Whether merchants pick a release on trial beyond its share: a test that may be read after every group.

A mixed group shows n candidates; m of them, chosen at random, are the trial's. Of s picks t are the trial's, and

    x = t/s − m/n,   −1 < x < 1

is what the trial got beyond its share. If it is no better than the live release, x has a mean of at most 0, whatever
was seen before: with two equal releases t is hypergeometric, because chance chose the trial's places and the picks
follow from something else. That merchants resemble each other, or like the first place, changes nothing.

Every merchant is one bet, played over their groups. The balance S of a merchant starts at 0, and a group moves it by
b·x with b = min(STEP, 1 − |S|), so that −1 < S < 1. The wealth of a stake λ is

    W = Π (1 + λ·S)   over the merchants

Why it is a test. Before a group of a merchant with balance S comes, b is known; the group multiplies W by
1 + λ·b·x / (1 + λ·S), which is positive and has a mean of at most 1. So W is a supermartingale from 1 in the order
in which groups arrive, and so is the mean of W over STAKES, which is the e-value. By Ville's inequality it
ever reaches 20 with a chance of at most 1/20, however often it is read, if the trial is no better. With −x it is the
same test of whether the trial is no worse.

Why one merchant cannot decide. All the groups of a merchant together change W by a factor from 1 − λ to 1 + λ, however
many they are. And as balances add up, a merchant who likes the trial and one who dislikes it as much undo each other,
where a product over groups would grow with both.

Knows merchants and numbers; no tables and no releases.
"""

import math

STAKES = (0.1, 0.2, 0.4, 0.8)  # λ: small ones for small differences
STEP = 0.25  # the most of a balance that one group moves; others see small gains later, or large ones (docs/loop.md)


def beyond_share(trial: int, candidates: int, picked: int, picks: int) -> float:
    """x of a group: `picked` of its `picks` fell on the `trial` of its `candidates` that are on trial."""
    return picked / picks - trial / candidates


class Bets:
    """The balances of all merchants, and the e-values of both directions."""

    def __init__(self) -> None:
        self._balances: dict[str, float] = {}  # by merchant
        self._log_better = [0.0] * len(STAKES)  # log W of every stake
        self._log_worse = [0.0] * len(STAKES)  # of −x

    def add(self, merchant: str, x: float) -> None:
        """The next group that arrived, of this merchant.

        Raises:
            ValueError: x is not a number between −1 and 1.
        """
        if not -1 < x < 1:
            raise ValueError(f"a group gave {x} beyond the share, which lies between -1 and 1")
        before = self._balances.get(merchant, 0.0)
        after = before + min(STEP, 1 - abs(before)) * x
        self._balances[merchant] = after
        for n, stake in enumerate(STAKES):
            self._log_better[n] += math.log1p(stake * after) - math.log1p(stake * before)
            self._log_worse[n] += math.log1p(-stake * after) - math.log1p(-stake * before)

    @property
    def merchants(self) -> int:
        """How many have bet."""
        return len(self._balances)

    @property
    def better(self) -> float:
        """The e-value against "the trial is no better"."""
        return _mean_of(self._log_better)

    @property
    def worse(self) -> float:
        """The e-value against "the trial is no worse"."""
        return _mean_of(self._log_worse)


def _mean_of(logs: list[float]) -> float:
    """The mean of e to these powers; beyond 1e300 it says so much."""
    return sum(math.exp(min(log, 690.0)) for log in logs) / len(logs)
