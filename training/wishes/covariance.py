"""How favours vary among merchants: what serving needs to learn from a merchant's own picks (contract/history.py).

Two covariances, each by expectation maximisation over merchants with several picks: of all merchants about their mean,
and of merchants about what their profile says. What a profile says of a merchant comes from weights that were fitted
without this merchant's picks, as for every merchant in service; else the second covariance would be too small.

Knows groups, tags and the choice model; no pixels, no files.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from contract.history import LAST_GROUPS, Choice, Population, Prior, factor_of, fit
from contract.vocabulary import Vocabulary
from training.data.groups import GroupTensors
from training.wishes.fitting import Fit, fit_at
from training.wishes.preferences import PreferenceWeights
from training.wishes.tagging import ABSENT

LEAST_MERCHANTS = 40  # with several picks; of fewer, a covariance says little
MOST_MERCHANTS = 1_000  # more change little, and each takes milliseconds a turn
FOLDS = 4  # of merchants, for weights without their picks
MOST_TURNS = 20
_CHANGE = 0.02  # of the covariance in a turn, relative: less is the end
_START = 0.5  # standard deviation of a favour to begin with


@dataclass(frozen=True, eq=False)
class _Merchant:
    """One merchant's picks, oldest first, and the profile at the last of them."""

    choices: tuple[Choice, ...]
    profile: np.ndarray  # (F,)


def population(tags: np.ndarray, groups: GroupTensors, vocabulary: Vocabulary, found: Fit) -> Population | None:
    """How favours vary among the merchants of these groups; None where too few have several picks.

    Args:
        tags: what candidates show, int64 (N, K, kinds).
        found: the fit of the weights to the same groups; its weight decay is used again.
    """
    if groups.user_ids is None:
        return None
    groups = replace(groups, images=None, latents=None)  # rows of them would be copied
    rows = groups.rows_with(negatives=True)
    users, whose = np.unique(np.asarray(groups.user_ids), return_inverse=True)
    by_user = np.split(
        rows[np.argsort(whose[rows], kind="stable")], np.cumsum(np.bincount(whose[rows], minlength=len(users)))[:-1]
    )
    several = np.flatnonzero([len(of) > 1 for of in by_user])
    if len(several) < LEAST_MERCHANTS:
        return None
    chosen = np.random.default_rng(0).permutation(several)[:MOST_MERCHANTS]
    merchants = [_merchant(tags, groups, vocabulary, by_user[user]) for user in chosen]
    picks = [merchant.choices for merchant in merchants]
    means = np.zeros((len(chosen), len(vocabulary.phrases)))  # (U, V)
    for fold in tqdm(range(FOLDS), desc="weights without a fold's merchants", mininterval=2):
        inside = np.arange(len(chosen)) % FOLDS == fold
        others = np.flatnonzero(~np.isin(whose, chosen[inside]))
        weights = fit_at(found.decay, tags[others], groups.rows(others), vocabulary)
        profiles = np.stack([merchant.profile for merchant in merchants])[inside]
        means[inside] = PreferenceWeights(groups.schema, vocabulary, weights).of(profiles)
    mean, covariance = maximised(picks, None, vocabulary)
    _, residual = maximised(picks, means, vocabulary)
    return Population(mean, covariance, residual)


def _merchant(tags: np.ndarray, groups: GroupTensors, vocabulary: Vocabulary, rows: np.ndarray) -> _Merchant:
    starts = np.cumsum([0, *vocabulary.sizes[:-1]])
    choices = list[Choice]()
    for row in rows[-LAST_GROUPS:]:
        there = np.flatnonzero(groups.there[row])
        shown = tuple(tuple((starts + of)[of != ABSENT].tolist()) for of in tags[row, there])
        choices.append(Choice(shown, tuple(groups.selected[row, there].tolist())))
    return _Merchant(tuple(choices), np.asarray(groups.features[rows[-1]]))


def maximised(
    picks: Sequence[Sequence[Choice]], means: np.ndarray | None, vocabulary: Vocabulary
) -> tuple[np.ndarray, np.ndarray]:
    """The mean and the covariance under which the merchants' picks are likeliest; about `means` (U, V), if given."""
    projector = _centring(vocabulary)
    rank, n = np.trace(projector), len(picks)
    mean, covariance = np.zeros(len(projector)), _START**2 * projector
    for _ in tqdm(range(MOST_TURNS), desc="learning how merchants vary", mininterval=2):
        factor, before = factor_of(covariance), covariance
        sums, second = np.zeros_like(mean), np.zeros_like(covariance)
        for at, choices in enumerate(picks):
            own = mean if means is None else means[at]
            posterior = fit(Prior(own, factor), choices)
            off = posterior.mean - own
            sums += off
            second += np.outer(off, off) + posterior.factor @ posterior.factor.T
        if means is None:  # about the new mean
            second -= np.outer(sums, sums) / n
            mean = mean + sums / n
        # As if `rank` merchants more had been seen who vary alike in every direction: few merchants span few.
        alike = np.trace(second) / (n * rank) * projector
        covariance = (second + rank * alike) / (n + rank)
        if np.linalg.norm(covariance - before) < _CHANGE * np.linalg.norm(before):
            break
    return mean, (covariance + covariance.T) / 2


def _centring(vocabulary: Vocabulary) -> np.ndarray:
    """(V, V), which takes away the mean of each kind: only differences within a kind decide."""
    projector = np.eye(len(vocabulary.phrases))
    start = 0
    for size in vocabulary.sizes:
        projector[start : start + size, start : start + size] -= 1 / size
        start += size
    return projector
