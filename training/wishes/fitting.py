"""Fits preference weights to picks: candidates that were picked against the others of their group.

The strength of the weight decay decides how much few groups may say. It is chosen by picks that were held out: a tenth
of the groups, or several fifths in turn where a tenth is too few to choose by; then all groups are fitted with it.
Knows groups and tags; no pixels, no files.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from contract.vocabulary import Vocabulary
from training.common.objectives import reward_cross_entropy
from training.data.groups import GroupError, GroupTensors
from training.wishes.preferences import PreferenceWeights, entries_of, n_entries, rows_of
from training.wishes.tagging import ABSENT

DECAYS = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0)  # weight decays to choose from; few groups need strong ones
LEAST_GROUPS = 10  # so that a tenth is one
ENOUGH_HELD_OUT = 500  # groups to choose a weight decay by
MOST_STEPS = 60  # of L-BFGS; the objective is convex, and half as many are usual


@dataclass(frozen=True, eq=False)
class Fit:
    """Weights that were fitted to all groups, and how well the same weight decay predicts groups that were held out."""

    model: PreferenceWeights
    decay: float  # infinite: held-out picks are predicted best if no phrase is favoured
    losses: np.ndarray  # (H,) cross-entropy of the picks of held-out groups, in nats
    weights: np.ndarray  # (H,) of these groups

    @property
    def loss(self) -> float:
        """The mean cross-entropy of held-out groups."""
        return float(np.average(self.losses, weights=self.weights))


def fit(tags: np.ndarray, groups: GroupTensors, vocabulary: Vocabulary, decays: Sequence[float] = DECAYS) -> Fit:
    """The weights of these groups, whose candidates show `tags` int64 (N, K, kinds).

    The weight decay is the one that predicts held-out picks best; groups without information give weights of zero. A
    group counts by its weight.

    Raises:
        GroupError: there are too few groups.
    """
    choices, tried = _choices(tags, groups, vocabulary), (np.inf, *sorted(decays, reverse=True))
    parts = _held_out(len(choices))
    paths = zip(*(choices.without(part).path(tried) for part in parts), strict=True)
    weights = torch.cat([choices.weights[part] for part in parts]).double()
    losses = list[Tensor]()  # (H,) of each decay
    with tqdm(total=len(tried), desc="choosing a weight decay", mininterval=2) as bar:
        for fitted in paths:
            of_parts = [choices.rows(part).losses(one) for part, one in zip(parts, fitted, strict=True)]
            losses.append(torch.cat(of_parts).double())
            bar.update()
            if _is_past(torch.stack(losses) @ weights):
                break
    best = int((torch.stack(losses) @ weights).argmin())
    *_, whole = choices.path(tried[: best + 1])
    model = PreferenceWeights(groups.schema, vocabulary, whole)
    return Fit(model, tried[best], losses[best].numpy(), weights.numpy())


def fit_at(decay: float, tags: np.ndarray, groups: GroupTensors, vocabulary: Vocabulary) -> Tensor:
    """The weights (P, V) of these groups for one weight decay.

    Raises:
        GroupError: there are too few groups.
    """
    *_, weights = _choices(tags, groups, vocabulary).path([decay])
    return weights


def _held_out(n: int) -> list[slice]:
    """The last tenth of n groups; where a tenth is too few to choose by, as many fifths as it takes, in turn."""
    size = n // 10 if n // 10 >= ENOUGH_HELD_OUT else n // 5
    count = min(5, -(-ENOUGH_HELD_OUT // size))
    return [slice(n - (at + 1) * size, n - at * size) for at in range(count)]


def _is_past(losses: Tensor) -> bool:
    """Whether the last two weight decays, each weaker than the one before, predict worse than an earlier one."""
    return len(losses) > 2 and bool(losses[-2:].min() > losses[:-2].min())


@dataclass(frozen=True)
class _Choices:
    """N groups with profiles, candidates and picks. A profile with several groups has its favours computed once."""

    places: Tensor  # (N, K, kinds) of what is shown in the flat favours of all profiles (U, V + 1); last: kind absent
    entries: Tensor  # (U, E) of the distinct profiles
    selected: Tensor  # (N, K), or how much each picked candidate counts
    there: Tensor  # (N, K)
    weights: Tensor  # (N,)
    shape: tuple[int, int]  # (P, V) of the weights

    def __len__(self) -> int:
        return len(self.places)

    def rows(self, rows: slice | np.ndarray) -> "_Choices":
        """Some of the groups."""
        parts = (self.selected[rows], self.there[rows], self.weights[rows])
        return _Choices(self.places[rows], self.entries, *parts, self.shape)

    def without(self, part: slice) -> "_Choices":
        """The groups that are not in this part."""
        return self.rows(np.delete(np.arange(len(self)), part))

    def losses(self, weights: Tensor) -> Tensor:
        """Cross-entropy of the conditional logit with weights (P, V), (N,)."""
        favours = F.pad(F.embedding_bag(self.entries, weights, mode="sum"), (0, 1)).flatten()  # (U · (V + 1),)
        utility = favours[self.places].sum(-1)  # (N, K)
        return reward_cross_entropy(utility, self.selected, self.there)

    def path(self, decays: Sequence[float]) -> Iterator[Tensor]:
        """The best weights (P, V) for each of these decays, found from those before; an infinite one gives zeros."""
        weights = torch.zeros(self.shape)
        for decay in decays:
            if decay < np.inf:
                weights = self.fitted(decay, weights)
            yield weights

    def fitted(self, decay: float, start: Tensor) -> Tensor:
        """The best weights (P, V) for one decay."""
        weights, of_group = start.clone().requires_grad_(True), self.weights / self.weights.sum()
        optimizer = torch.optim.LBFGS([weights], 1, MOST_STEPS, tolerance_grad=1e-4, line_search_fn="strong_wolfe")

        def objective() -> Tensor:
            optimizer.zero_grad()
            loss = self.losses(weights) @ of_group + decay * weights.square().sum()
            loss.backward()
            return loss

        optimizer.step(objective)
        return weights.detach()


def _choices(tags: np.ndarray, groups: GroupTensors, vocabulary: Vocabulary) -> _Choices:
    """The groups with information.

    Raises:
        GroupError: there are too few.
    """
    rows = groups.rows_with(negatives=True)
    if len(rows) < LEAST_GROUPS:
        raise GroupError(f"{len(rows)} groups have both a pick and what was passed over; {LEAST_GROUPS} are the least")
    n_rows, n_phrases = rows_of(groups.schema), len(vocabulary.phrases)
    profiles, whose = np.unique(np.asarray(groups.features[rows]), axis=0, return_inverse=True)
    shown, starts = tags[rows], np.cumsum([0, *vocabulary.sizes[:-1]])
    phrases = np.where(shown == ABSENT, n_phrases, starts + shown)  # (N, K, kinds)
    return _Choices(
        torch.from_numpy(phrases + (n_phrases + 1) * whose.reshape(-1, 1, 1)),
        entries_of(torch.from_numpy(profiles), n_rows),
        torch.tensor(groups.chosen_of(rows)),
        torch.tensor(groups.there[rows]),
        torch.tensor(groups.weight[rows]),
        (n_entries(n_rows), n_phrases),
    )
