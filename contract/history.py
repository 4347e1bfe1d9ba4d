"""A merchant's history: what their last picks say of their favours, beside what their profile says.

Favours are logits of a pick: in a group, a candidate is picked with a probability proportional to the exponential of
the favours of all that it shows (the conditional logit that preference weights are fitted by). Before any pick, a
merchant's favours are normally distributed in one of two ways:

    profile      about what the profile says, with the covariance of what profiles leave open
    population   about the mean of all merchants, with the covariance of all: the profile is wrong, or is missing

Each becomes a posterior by Laplace's approximation, found by Newton's method, and each has a marginal likelihood, which
is how well it foretold the picks. The favours are the mean of the two posteriors, weighted by prior and marginal
likelihood: a profile that foretells the picks is kept, one that does not is left within a few groups. Without any pick
that tells something they are the profile's, untouched.

Knows phrases, picks and numbers; not where they are kept, nor what a favour is used for.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contract.errors import ManifestError, reading
from contract.prompts import folded
from contract.vocabulary import Vocabulary

HISTORY = "history.json"
LAST_GROUPS = 64  # with a pick; older ones say nothing any more
HALF_LIFE = 64  # groups after which a pick counts half, because tastes drift; chosen, not measured
WRONG_PROFILE = 0.2  # the prior chance that a whole profile is not the merchant's; chosen on validation merchants
_MOST_STEPS = 50  # of Newton's method; the objective is convex, and five to eight are usual
_DECREMENT = 1e-9  # of the objective, in nats, that is worth no further step
_NO_VARIANCE = 1e-8  # of the largest: directions in which favours do not vary, such as the mean of a kind

Array = NDArray[np.float64]
Favours = NDArray[np.floating]  # (V,), the mean of each kind is zero


@dataclass(frozen=True, order=True)
class HistoryVersion:
    """Which of a merchant's picks favours were computed from."""

    sequence: int = 0  # the greatest among them
    groups: int = 0


NO_HISTORY = HistoryVersion()


@dataclass(frozen=True)
class Choice:
    """A group with a pick: for each candidate the phrases that it shows, as places in (V,), and whether it was picked.

    Phrases that all candidates show are left out: they decide nothing.
    """

    shown: tuple[tuple[int, ...], ...]
    picked: tuple[bool, ...]


def choice_of(vocabulary: Vocabulary, shown: Sequence[Sequence[str]], picked: Sequence[bool]) -> Choice | None:
    """What a pick says of the phrases of this vocabulary; None when it says nothing.

    Args:
        shown: the phrases that each candidate shows beside the prompt, such as its wishes; unknown ones say nothing.
    """
    places = vocabulary.places
    keys = [[phrase if phrase in places else folded(phrase) for phrase in of] for of in shown]
    found = [frozenset(places[key] for key in of if key in places) for of in keys]
    if len(set(found)) < 2 or any(picked) == all(picked):
        return None
    common = frozenset.intersection(*found)
    return Choice(tuple(tuple(sorted(of - common)) for of in found), tuple(map(bool, picked)))


@dataclass(frozen=True, eq=False)
class Prior:
    """Favours before any pick: normal, with a covariance of any rank."""

    mean: Array  # (V,)
    factor: Array  # (V, R): the covariance is factor · factorᵀ


@dataclass(frozen=True, eq=False)
class Posterior:
    """Favours after some picks, by Laplace's approximation."""

    mean: Array  # (V,)
    factor: Array  # (V, R), of the covariance, as of the prior
    log_evidence: float  # of the picks: how well the prior foretold them, in nats


@dataclass(frozen=True, eq=False)
class Population:
    """How the favours of merchants vary; learnt from picks (training.wishes.covariance), a part of a release.

    Raises:
        ManifestError: the numbers are no covariances of favours.
    """

    mean: Array  # (V,) over all merchants
    covariance: Array  # (V, V) of all merchants about this mean
    residual: Array  # (V, V) of merchants about what their profile says

    def __post_init__(self) -> None:
        v = len(self.mean)
        for name, shape in (("mean", (v,)), ("covariance", (v, v)), ("residual", (v, v))):
            found = getattr(self, name)
            if found.shape != shape or not np.isfinite(found).all():
                raise ManifestError(f"{name} is {found.shape}, not {shape} finite numbers")
            if len(shape) == 2 and not _is_covariance(found):
                raise ManifestError(f"{name} is no covariance: it must be symmetric and positive semidefinite")

    @cached_property
    def by_population(self) -> Prior:
        """Of a merchant of whom nothing is known."""
        return Prior(self.mean, factor_of(self.covariance))

    @cached_property
    def _residual_factor(self) -> Array:
        return factor_of(self.residual)

    def by_profile(self, favours: Favours) -> Prior:
        """Of a merchant of whom a profile says these favours."""
        return Prior(np.asarray(favours, np.float64), self._residual_factor)

    def favours(self, by_profile: Favours, choices: Sequence[Choice], unknown: float = 0.0) -> Favours:
        """The favours after these picks, of the same shape and type; the very same array where there are none.

        Args:
            by_profile: the favours that the profile says  # (V,).
            choices: the merchant's last picks, the oldest first; each counts by its place from the end.
            unknown: the share of the profile that says nothing, 0 to 1; with 1 the population is all that there is.
        """
        if not choices:
            return by_profile
        last = choices[-LAST_GROUPS:]
        weights = recency(len(last))
        wrong = WRONG_PROFILE + (1 - WRONG_PROFILE) * unknown
        found = fit(self.by_population, last, weights)
        mean = found.mean
        if wrong < 1:
            personal = fit(self.by_profile(by_profile), last, weights)
            log_odds = np.log(wrong / (1 - wrong)) + found.log_evidence - personal.log_evidence
            share = 1 / (1 + np.exp(-np.clip(log_odds, -700, 700)))  # of the population
            mean = share * found.mean + (1 - share) * personal.mean
        return mean.astype(by_profile.dtype)

    def to_json(self) -> dict[str, Any]:
        """The content of history.json, rounded to what single precision tells."""
        names = ("mean", "covariance", "residual")
        return {name: [_rounded(row) for row in np.atleast_2d(getattr(self, name))] for name in names}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Population":
        """What `to_json` gave.

        Raises:
            ManifestError: it is out of form.
        """
        (mean,) = np.asarray(data["mean"], np.float64)
        covariance, residual = (np.asarray(data[name], np.float64) for name in ("covariance", "residual"))
        return cls(mean, covariance, residual)

    def to_text(self) -> str:
        """The file's text."""
        return json.dumps(self.to_json(), separators=(",", ":")) + "\n"

    @classmethod
    def read(cls, path: Path, phrases: int) -> "Population | None":
        """From history.json, of a vocabulary with so many phrases; None where there is no such file.

        Raises:
            ManifestError: it cannot be read, is out of form, or is of another vocabulary.
        """
        if not path.exists():
            return None
        with reading(path, ManifestError):
            found = cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        if len(found.mean) != phrases:
            raise ManifestError(f"{path} is of {len(found.mean)} phrases, the vocabulary has {phrases}")
        return found


def recency(n: int) -> Array:
    """The weights of n picks, the oldest first; the newest has 1."""
    weights: Array = 0.5 ** (np.arange(n)[::-1] / HALF_LIFE)
    return weights


def factor_of(covariance: Array) -> Array:
    """(V, R) whose product with its transpose is the covariance (V, V), R its rank."""
    values, vectors = np.linalg.eigh(covariance)
    there = values > _NO_VARIANCE * max(values.max(initial=0.0), 0.0)
    factor: Array = vectors[:, there] * np.sqrt(values[there])
    return factor


def fit(prior: Prior, choices: Sequence[Choice], weights: Array | None = None) -> Posterior:
    """The posterior of the favours.

    Args:
        weights: how much each pick counts  # (G,); without, all count 1.
    """
    if not choices:
        return Posterior(prior.mean, prior.factor, 0.0)
    picks = _Picks.of(prior, choices, np.ones(len(choices)) if weights is None else weights)
    z = np.zeros(prior.factor.shape[1])  # favours = mean + factor · z, and z is standard normal before any pick
    loss, gradient, hessian = picks.at(z)
    for _ in range(_MOST_STEPS):
        step = np.linalg.solve(hessian, -gradient)
        decrement = float(-gradient @ step)
        if decrement < _DECREMENT:
            break
        length = 1.0
        while (at := picks.at(z + length * step))[0] > loss - 1e-4 * length * decrement and length > 1e-6:
            length /= 2
        z, (loss, gradient, hessian) = z + length * step, at
    lower = np.linalg.cholesky(hessian)
    log_evidence = -loss - np.log(np.diag(lower)).sum()
    return Posterior(prior.mean + prior.factor @ z, np.linalg.solve(lower, prior.factor.T).T, float(log_evidence))


@dataclass(frozen=True, eq=False)
class _Picks:
    """M candidates of G groups, one after the other, in the coordinates of a prior."""

    at_mean: Array  # (M,) utilities under the prior's mean
    factor: Array  # (M, R)
    target: Array  # (M,) of each group, one divided among the picked
    starts: NDArray[np.int64]  # (G,)
    group: NDArray[np.int64]  # (M,)
    weights: Array  # (G,)

    @classmethod
    def of(cls, prior: Prior, choices: Sequence[Choice], weights: Array) -> "_Picks":
        sizes = np.array([len(choice.picked) for choice in choices])
        rows = [places for choice in choices for places in choice.shown]
        shown = np.full((len(rows), max(1, *map(len, rows))), len(prior.mean))  # past the end: no phrase
        for row, places in zip(shown, rows, strict=True):
            row[: len(places)] = places
        target = np.concatenate([np.array(choice.picked) / sum(choice.picked) for choice in choices])
        return cls(
            np.append(prior.mean, 0.0)[shown].sum(1),
            np.vstack([prior.factor, np.zeros_like(prior.factor[:1])])[shown].sum(1),
            target,
            np.cumsum([0, *sizes[:-1]]),
            np.repeat(np.arange(len(sizes)), sizes),
            weights,
        )

    def at(self, z: Array) -> tuple[float, Array, Array]:
        """Minus the logarithm of prior times likelihood, less a constant, with its gradient and Hessian."""
        utility = self.at_mean + self.factor @ z  # (M,)
        utility -= np.maximum.reduceat(utility, self.starts)[self.group]
        mass = np.exp(utility)
        total = np.add.reduceat(mass, self.starts)  # (G,)
        p = mass / total[self.group]  # (M,)
        picked = np.add.reduceat(self.target * utility, self.starts)  # (G,)
        of_row = self.weights[self.group]  # (M,)
        loss = 0.5 * z @ z + self.weights @ (np.log(total) - picked)
        gradient = z - self.factor.T @ (of_row * (self.target - p))
        mean = np.add.reduceat(p[:, None] * self.factor, self.starts)  # (G, R)
        hessian = np.eye(len(z)) + self.factor.T @ ((of_row * p)[:, None] * self.factor)
        hessian -= mean.T @ (self.weights[:, None] * mean)
        return float(loss), gradient, hessian


def _is_covariance(matrix: Array) -> bool:
    scale = float(np.abs(matrix).max(initial=0.0))
    if not np.allclose(matrix, matrix.T, atol=1e-5 * scale):
        return False
    return bool(np.linalg.eigvalsh(matrix).min(initial=0.0) >= -1e-4 * scale)


def _rounded(row: Array) -> list[float]:
    return [float(f"{value:.6g}") for value in row]
