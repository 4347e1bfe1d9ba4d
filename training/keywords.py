"""What users like, in words: a choice model over tagged pictures, and the phrases it would add to a prompt.

A tagger reads each candidate's attributes. A conditional logit, utility = tags · W · profile, where the profile is its
codes and their products two by two, learns from what everybody selected which values each profile favours. For a prompt
it then names the favoured values of kinds that the prompt leaves open. Knows groups and phrases; neither the market's
truth nor the judge.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from training.data.groups import GroupTensors
from training.market.attributes import ABSENT, ATTRIBUTES, KINDS, applies, to_indices
from training.market.prompts import PHRASE_OF, parse
from training.objectives import reward_cross_entropy
from training.recogniser import Recogniser

WISHES: Mapping[str, Any] = MappingProxyType({"most": len(KINDS), "least": 0.0})  # phrases a prompt, favour of each
DECAYS = (1e-4, 3e-4, 1e-3, 3e-3)  # weight decays to choose from
VALUES = [(a.kind, value) for a in ATTRIBUTES for value in a.values]
STARTS = np.cumsum([0, *(len(a.values) for a in ATTRIBUTES)])  # of each kind among VALUES
WISHED_KINDS = tuple(kind for kind in KINDS if kind != "category")


@dataclass(frozen=True)
class KeywordModel:
    """weights: float32 (len(VALUES), P), the favour of each value for each entry of a profile (P,)."""

    weights: Tensor
    n_rows: tuple[int, ...]  # codes of each slot of an encoded profile

    def save(self, path: Path) -> None:
        """As a NumPy archive."""
        np.savez(path, weights=self.weights.numpy(), n_rows=self.n_rows)

    @classmethod
    def load(cls, path: Path) -> "KeywordModel":
        """What `save` wrote."""
        saved = np.load(path)
        return cls(torch.tensor(saved["weights"]), tuple(saved["n_rows"].tolist()))

    def favours(self, features: np.ndarray) -> np.ndarray:
        """How much each value is favoured by these profiles (N, F), centred within its kind, (N, len(VALUES))."""
        scores = (profile_vectors(features, self.n_rows) @ self.weights.T).numpy()
        for start, end in zip(STARTS[:-1], STARTS[1:], strict=True):
            scores[:, start:end] -= scores[:, start:end].mean(1, keepdims=True)
        return scores


def wish(prompt: str, favours: np.ndarray, most: int, least: float) -> list[str]:
    """Phrases for kinds that the prompt leaves open: the most favoured value of each, if by `least` or more.

    Args:
        favours: of one user, (len(VALUES),).
        most: no more phrases than this, the most favoured first.
    """
    asked = parse(prompt)
    garment = dict(asked)
    wished: list[tuple[float, str]] = []
    for number, kind in enumerate(KINDS):
        if kind not in WISHED_KINDS or kind in asked or not _could_have(kind, garment):
            continue
        best = STARTS[number] + int(np.argmax(favours[STARTS[number] : STARTS[number + 1]]))
        if favours[best] >= least:
            garment[kind] = VALUES[best][1]
            wished.append((float(favours[best]), PHRASE_OF[VALUES[best]]))
    return [phrase for _, phrase in sorted(wished, reverse=True)[:most]]


def fit(tags: np.ndarray, groups: GroupTensors, decays: Sequence[float] = DECAYS) -> KeywordModel:
    """The choice model of these groups, whose candidates show `tags` int64 (N, K, len(KINDS)).

    The weight decay is the one that predicts the choices in the last tenth of the groups best.
    """
    rows = groups.rows_with(negatives=True)
    n_rows = tuple(f.n_rows for f in groups.schema.features for _ in range(f.n_slots))
    choices = _Choices(
        tag_vectors(tags[rows]),
        profile_vectors(np.asarray(groups.features[rows]), n_rows),
        torch.tensor(groups.selected[rows]),
        torch.tensor(groups.there[rows]),
    )
    last = len(rows) - len(rows) // 10
    weights = {decay: choices.rows(slice(None, last)).fitted(decay) for decay in decays}
    best = min(decays, key=lambda decay: choices.rows(slice(last, None)).loss(weights[decay]).item())
    return KeywordModel(weights[best], n_rows)


@dataclass(frozen=True)
class _Choices:
    """N groups: what was shown, to whom, and what was selected."""

    shown: Tensor  # (N, K, len(VALUES))
    profiles: Tensor  # (N, P)
    selected: Tensor  # (N, K)
    there: Tensor  # (N, K)

    def rows(self, rows: slice) -> "_Choices":
        return _Choices(self.shown[rows], self.profiles[rows], self.selected[rows], self.there[rows])

    def loss(self, weights: Tensor) -> Tensor:
        """Cross-entropy of the conditional logit with these weights (len(VALUES), P)."""
        utility = (self.shown * (self.profiles @ weights.T).unsqueeze(1)).sum(-1)  # (N, K)
        return reward_cross_entropy(utility, self.selected, self.there).mean()

    def fitted(self, decay: float, steps: int = 300) -> Tensor:
        weights = torch.zeros(self.shown.shape[-1], self.profiles.shape[1], requires_grad=True)
        optimizer = torch.optim.Adam([weights], lr=0.05)
        for _ in range(steps):
            optimizer.zero_grad()
            (self.loss(weights) + decay * weights.square().sum()).backward()
            optimizer.step()
        return weights.detach()


def wishes(model: KeywordModel, prompts: Sequence[str], features: np.ndarray, most: int, least: float) -> list[str]:
    """Each prompt with its user's wishes added."""
    favours = model.favours(features)
    return [",".join([p, *wish(p, f, most, least)]) for p, f in zip(prompts, favours, strict=True)]


def tags_of(groups: GroupTensors, tagger: Recogniser) -> np.ndarray:
    """What a tagger reads on every candidate, int64 (N, K, len(KINDS))."""
    assert groups.images is not None  # prepared from pictures
    garments = tagger.read(groups.images.reshape(-1, *groups.images.shape[2:]))
    return np.stack([to_indices(garment) for garment in garments]).reshape(*groups.selected.shape, -1)


def tag_vectors(tags: np.ndarray) -> Tensor:
    """One-hot values of all kinds, float32 (…, len(VALUES)); a kind that is absent is all zeros."""
    parts = [
        F.one_hot(torch.tensor(np.where(tags[..., k] == ABSENT, len(a.values), tags[..., k])), len(a.values) + 1)
        for k, a in enumerate(ATTRIBUTES)
    ]
    return torch.cat([part[..., :-1] for part in parts], dim=-1).float()


def profile_vectors(features: np.ndarray, n_rows: Sequence[int]) -> Tensor:
    """One-hot codes of all slots, their products two by two, and a one for everybody, float32 (N, P).

    The products because tastes lie in what two features say together.
    """
    slots = [F.one_hot(torch.tensor(features[:, slot]), n).float() for slot, n in enumerate(n_rows)]
    pairs = [(one.unsqueeze(2) * two.unsqueeze(1)).flatten(1) for one, two in combinations(slots, 2)]
    return torch.cat([*slots, *pairs, torch.ones(len(features), 1)], dim=1)


def _could_have(kind: str, garment: dict[str, str]) -> bool:
    """Whether a garment that is only partly asked for can have this kind at all."""
    return "category" in garment and applies(kind, garment)
