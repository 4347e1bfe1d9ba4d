"""What users like, in words: a choice model over tagged pictures, and the phrases it would add to a prompt.

Somebody tells which phrases of the vocabulary each candidate shows (training.wishes.tagging). A conditional logit, utility =
tags · W · profile, where the profile is its codes and their products two by two, learns from what everybody selected
which phrases each profile favours. For a prompt it then names the favoured phrases of kinds that the prompt leaves
open. Knows groups and phrases; neither the market's truth nor the judge.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from contract.vocabulary import Vocabulary, folded
from training.common.errors import reading
from training.common.objectives import reward_cross_entropy
from training.data.groups import GroupError, GroupTensors
from training.wishes.tagging import ABSENT

DECAYS = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0)  # weight decays to choose from; few groups need strong ones
MOST_PRODUCTS = 10_000  # of the codes of two slots
OF_EVERYBODY = 0.01  # of the weight decay, for what everybody likes
LEAST_GROUPS = 10  # so that a tenth is one


@dataclass(frozen=True)
class KeywordModel:
    """weights: float32 (V, P), the favour of each phrase of the vocabulary for each entry of a profile (P,)."""

    weights: Tensor
    n_rows: tuple[int, ...]  # codes of each slot of an encoded profile
    vocabulary: Vocabulary

    def save(self, path: Path) -> None:
        """As a NumPy archive."""
        words = json.dumps(self.vocabulary.to_json())
        np.savez(path, weights=self.weights.numpy(), n_rows=self.n_rows, vocabulary=words)

    @classmethod
    def load(cls, path: Path) -> "KeywordModel":
        """What `save` wrote."""
        with reading(path):
            saved = np.load(path)
            words = Vocabulary.from_json(json.loads(str(saved["vocabulary"])))
            return cls(torch.tensor(saved["weights"]), tuple(saved["n_rows"].tolist()), words)

    def favours(self, features: np.ndarray) -> np.ndarray:
        """How much each phrase is favoured by these profiles (N, F), centred within its kind, (N, V)."""
        scores = F.embedding_bag(entries_of(features, self.n_rows), self.weights.T, mode="sum").numpy()
        for of_kind in _by_kind(self.vocabulary, scores):
            of_kind -= of_kind.mean(1, keepdims=True)
        return scores


def wish(
    vocabulary: Vocabulary, prompt: str, favours: np.ndarray, most: int | None = None, least: float = 0.0
) -> list[str]:
    """Phrases for kinds that the prompt leaves open: the most favoured one of each, if by `least` or more.

    None for a prompt that names no category.

    Args:
        favours: of one user, (V,).
        most: no more phrases than this, the most favoured first.
    """
    asked = vocabulary.asked(prompt)
    if vocabulary.category.name not in asked:
        return []
    said, wished = dict(asked), []
    for kind, of_kind in zip(vocabulary.kinds, _by_kind(vocabulary, favours[None]), strict=True):
        best = int(np.argmax(of_kind))
        is_choice = len(kind.phrases) > 1  # a kind's only phrase is neither favoured nor not
        if kind.name in asked or not is_choice or not vocabulary.could_have(kind, said) or of_kind[0, best] < least:
            continue
        said[kind.name] = folded(kind.phrases[best])
        wished.append((float(of_kind[0, best]), kind.phrases[best]))
    return [phrase for _, phrase in sorted(wished, reverse=True)[:most]]


def _by_kind(vocabulary: Vocabulary, favours: np.ndarray) -> list[np.ndarray]:
    """Views of the kinds of (N, V)."""
    return np.split(favours, np.cumsum(vocabulary.sizes)[:-1], axis=1)


def fit(
    tags: np.ndarray, groups: GroupTensors, vocabulary: Vocabulary, decays: Sequence[float] = DECAYS
) -> KeywordModel:
    """The choice model of these groups, whose candidates show `tags` int64 (N, K, kinds).

    The weight decay is the one that predicts the choices in the last tenth of the groups best; what everybody likes has
    a hundredth of it. Groups that tell nothing give a model that favours nothing.
    """
    n_rows = tuple(f.n_rows for f in groups.schema.features for _ in range(f.n_slots))
    training, held_out = _choices(tags, groups, n_rows, vocabulary)
    found = [training.fitted(vocabulary, n_rows, decay) for decay in decays]
    found.append(torch.zeros_like(found[0]))
    best = min(found, key=lambda weights: held_out.losses(weights.T).mean().item())
    return KeywordModel(best, n_rows, vocabulary)


def held_out_losses(model: KeywordModel, tags: np.ndarray, groups: GroupTensors) -> np.ndarray:
    """Cross-entropy of what was selected in each of the last tenth of the groups, in nats, (H,)."""
    _, held_out = _choices(tags, groups, model.n_rows, model.vocabulary)
    return held_out.losses(model.weights.T).numpy()


@dataclass(frozen=True)
class _Choices:
    """N groups: what was shown, to whom, and what was selected."""

    places: Tensor  # (N, K, kinds) of what is shown among the vocabulary's phrases; V: the kind is absent
    entries: Tensor  # (N, E) of the profiles
    selected: Tensor  # (N, K)
    there: Tensor  # (N, K)

    def rows(self, rows: slice) -> "_Choices":
        return _Choices(self.places[rows], self.entries[rows], self.selected[rows], self.there[rows])

    def losses(self, columns: Tensor) -> Tensor:
        """Cross-entropy of the conditional logit with the transposed weights (P, V), (N,)."""
        favours = F.pad(F.embedding_bag(self.entries, columns, mode="sum"), (0, 1))  # (N, V + 1)
        n, k, _ = self.places.shape
        utility = favours.gather(1, self.places.flatten(1)).view(n, k, -1).sum(-1)
        return reward_cross_entropy(utility, self.selected, self.there)

    def fitted(self, vocabulary: Vocabulary, n_rows: Sequence[int], decay: float, steps: int = 300) -> Tensor:
        """Weights (V, P) after these steps of Adam."""
        columns = torch.zeros(n_entries(n_rows), sum(vocabulary.sizes), requires_grad=True)
        optimizer = torch.optim.Adam([columns], lr=0.05)
        for _ in range(steps):
            optimizer.zero_grad()
            penalty = columns[:-1].square().sum() + OF_EVERYBODY * columns[-1].square().sum()
            (self.losses(columns).mean() + decay * penalty).backward()
            optimizer.step()
        return columns.detach().T.contiguous()


def _choices(
    tags: np.ndarray, groups: GroupTensors, n_rows: Sequence[int], vocabulary: Vocabulary
) -> tuple[_Choices, _Choices]:
    """Of the groups that tell something, and of the last tenth of them.

    Raises:
        GroupError: there are too few.
    """
    rows = groups.rows_with(negatives=True)
    if len(rows) < LEAST_GROUPS:
        raise GroupError(f"{len(rows)} groups have both a pick and what was passed over; {LEAST_GROUPS} are the least")
    shown, starts = tags[rows], np.cumsum([0, *vocabulary.sizes[:-1]])
    choices = _Choices(
        torch.from_numpy(np.where(shown == ABSENT, sum(vocabulary.sizes), starts + shown)),
        entries_of(np.asarray(groups.features[rows]), n_rows),
        torch.tensor(groups.selected[rows]),
        torch.tensor(groups.there[rows]),
    )
    last = len(rows) - len(rows) // 10
    return choices.rows(slice(None, last)), choices.rows(slice(last, None))


def wishes(model: KeywordModel, prompts: Sequence[str], features: np.ndarray) -> list[str]:
    """Each prompt with its user's wishes added."""
    favours = model.favours(features)
    return [",".join([p, *wish(model.vocabulary, p, f)]) for p, f in zip(prompts, favours, strict=True)]


def n_entries(n_rows: Sequence[int]) -> int:
    """P, how long a profile is as a vector of noughts and ones, whose slots have so many codes."""
    return sum(n_rows) + sum(n_rows[one] * n_rows[two] for one, two in _pairs(n_rows)) + 1


def entries_of(features: np.ndarray, n_rows: Sequence[int]) -> Tensor:
    """Where the vectors of profiles (N, F) are one, int64 (N, F + pairs + 1).

    At the codes of all slots, at their products two by two, because tastes lie in what two features say together, and
    at one place for everybody. Two slots of very many codes have no products: no two merchants would share one.
    """
    pairs = _pairs(n_rows)
    products = [features[:, one] * n_rows[two] + features[:, two] for one, two in pairs]
    sizes = [*n_rows, *(n_rows[one] * n_rows[two] for one, two in pairs)]
    starts = np.cumsum([0, *sizes])
    columns = [*features.T, *products, np.zeros(len(features), np.int64)]
    return torch.from_numpy(np.stack(columns, axis=1) + starts)


def _pairs(n_rows: Sequence[int]) -> list[tuple[int, int]]:
    return [(i, j) for i, j in combinations(range(len(n_rows)), 2) if n_rows[i] * n_rows[j] <= MOST_PRODUCTS]
