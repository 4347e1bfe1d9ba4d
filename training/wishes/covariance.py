"""How favours vary among merchants: what serving needs to learn from a merchant's own picks (contract/history.py).

The covariance of merchants about what their profile says is found by expectation maximisation over merchants with
several picks. What a profile says of a merchant comes from weights that were fitted without this merchant's picks, as
for every merchant in service; else the covariance would be too small. The covariance of all merchants about their mean
adds how profiles differ. Laplace's approximation makes such covariances too small where merchants have few picks, so
each is then scaled by what predicts: by it, the first half of a merchant's picks foretells the second half best.

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
MOST_MERCHANTS = 600  # those with most picks; more change little, and each takes milliseconds a turn
FOLDS = 4  # of merchants, for weights without their picks
MOST_TURNS = 30
_GROWTH, _MOST_FACTOR = 1.6, 12.0  # of a turn's step
_LEAST_GAIN = 2e-3  # nats a merchant: less is the end
SCALES = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6)
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
    mixed = np.random.default_rng(0).permutation(several)
    chosen = mixed[np.argsort([-len(by_user[user]) for user in mixed], kind="stable")][:MOST_MERCHANTS]
    merchants = [_merchant(tags, groups, vocabulary, by_user[user]) for user in chosen]
    picks = [merchant.choices for merchant in merchants]
    means = np.zeros((len(chosen), len(vocabulary.phrases)))  # (U, V)
    for fold in tqdm(range(FOLDS), desc="weights without a fold's merchants", mininterval=2):
        inside = np.arange(len(chosen)) % FOLDS == fold
        others = np.flatnonzero(~np.isin(whose, chosen[inside]))
        weights = fit_at(found.decay, tags[others], groups.rows(others), vocabulary)
        profiles = np.stack([merchant.profile for merchant in merchants])[inside]
        means[inside] = PreferenceWeights(groups.schema, vocabulary, weights).of(profiles)
    residual = maximised(picks, means, vocabulary)
    mean, between = means.mean(0), np.cov(means, rowvar=False, bias=True)
    residual *= best_scale(residual, picks, means)
    covariance = between + residual
    covariance *= best_scale(covariance, picks, np.broadcast_to(mean, means.shape))
    return Population(mean, covariance, residual)


def best_scale(covariance: np.ndarray, picks: Sequence[Sequence[Choice]], means: np.ndarray) -> float:
    """The factor of the covariance (V, V) about `means` (U, V) with which early picks foretell later ones best."""
    losses = np.zeros(len(SCALES))
    for at, scale in enumerate(SCALES):
        factor = factor_of(scale * covariance)
        for choices, mean in zip(picks, means, strict=True):
            middle = len(choices) // 2
            favours = np.append(fit(Prior(mean, factor), choices[:middle]).mean, 0.0)
            losses[at] += sum(_loss(choice, favours) for choice in choices[middle:])
    return SCALES[int(losses.argmin())]


def _loss(choice: Choice, favours: np.ndarray) -> float:
    """The cross-entropy of a pick, in nats."""
    utility = np.array([favours[list(places)].sum() for places in choice.shown])
    utility -= utility.max()
    picked = np.array(choice.picked)
    return float(np.log(np.exp(utility).sum()) - utility[picked].mean())


def _merchant(tags: np.ndarray, groups: GroupTensors, vocabulary: Vocabulary, rows: np.ndarray) -> _Merchant:
    starts = np.cumsum([0, *vocabulary.sizes[:-1]])
    choices = list[Choice]()
    for row in rows[-LAST_GROUPS:]:
        there = np.flatnonzero(groups.there[row])
        shown = tuple(tuple((starts + of)[of != ABSENT].tolist()) for of in tags[row, there])
        choices.append(Choice(shown, tuple(groups.selected[row, there].tolist())))
    return _Merchant(tuple(choices), np.asarray(groups.features[rows[-1]]))


def maximised(picks: Sequence[Sequence[Choice]], means: np.ndarray, vocabulary: Vocabulary) -> np.ndarray:
    """The covariance (V, V) about `means` (U, V) under which the merchants' picks are likeliest.

    A turn of expectation maximisation goes a small part of the way where a merchant has few picks. So each goes further
    by a factor that grows while the evidence does; where it fell, the turn is taken back, and the factor is 1 again.
    """
    projector, n = _centring(vocabulary), len(picks)
    covariance = _START**2 * projector
    best, evidence_of_best, step, factor = covariance, -np.inf, np.zeros_like(covariance), 1.0
    for _ in tqdm(range(MOST_TURNS), desc="learning how merchants vary", mininterval=2):
        evidence, turned = _turn(picks, means, covariance, projector)
        gain = evidence - evidence_of_best
        if gain > 0:
            best, evidence_of_best, step = covariance, evidence, turned - covariance
            factor = min(factor * _GROWTH, _MOST_FACTOR)
        elif factor == 1:
            break
        else:
            factor = 1.0
        if 0 < gain < _LEAST_GAIN * n:
            break
        covariance = _positive(best + factor * step)
    return best


def _turn(
    picks: Sequence[Sequence[Choice]], means: np.ndarray, covariance: np.ndarray, projector: np.ndarray
) -> tuple[float, np.ndarray]:
    """The log evidence of the picks under this covariance, and the next one."""
    factor, rank, n = factor_of(covariance), np.trace(projector), len(picks)
    evidence, second = 0.0, np.zeros_like(covariance)
    for choices, mean in zip(picks, means, strict=True):
        posterior = fit(Prior(mean, factor), choices)
        off = posterior.mean - mean
        evidence += posterior.log_evidence
        second += np.outer(off, off) + posterior.factor @ posterior.factor.T
    # As if a merchant more for each direction had been seen who vary alike in all: few merchants span few.
    alike = np.trace(second) / (n * rank) * projector
    return evidence, (second + rank * alike) / (n + rank)


def _positive(covariance: np.ndarray) -> np.ndarray:
    """The same without directions of negative variance, to which a long step may lead."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    least = 1e-3 * values.max()
    there = np.abs(values) > 1e-9 * values.max()  # the others are the means of kinds
    kept = np.where(there, np.maximum(values, least), 0.0)
    positive: np.ndarray = (vectors * kept) @ vectors.T
    return positive


def _centring(vocabulary: Vocabulary) -> np.ndarray:
    """(V, V), which takes away the mean of each kind: only differences within a kind decide."""
    projector = np.eye(len(vocabulary.phrases))
    start = 0
    for size in vocabulary.sizes:
        projector[start : start + size, start : start + size] -= 1 / size
        start += size
    return projector
