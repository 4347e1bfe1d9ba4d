"""The preference weights: how much each profile favours each phrase, a choice model over tagged candidates.

A conditional logit: the utility of a candidate is tags · W · profile, where a profile is its codes and their products
two by two (taste depends on pairs of features), and one entry for the population average. It is trained on picked
candidates against the others of their group. Favours are in logits of a pick, centred within each kind. Knows groups
and phrases, no pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from contract.feature_schema import FeatureSchema
from contract.vocabulary import Vocabulary
from training.common.errors import WeightsError, reading
from training.common.objectives import reward_cross_entropy
from training.common.storage import load_weights, read_config, save_weights
from training.data.groups import GroupError, GroupTensors
from training.wishes.tagging import ABSENT

WEIGHTS_FILE = "preferences.safetensors"
DECAYS = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 1.0)  # weight decays to choose from; few groups need strong ones
MOST_PRODUCTS = 10_000  # of the codes of two slots; with more, no two merchants would share one
OF_AVERAGE = 0.01  # of the weight decay, for the population average
LEAST_GROUPS = 10  # so that a tenth is one
STEPS = 300  # of Adam, for each decay


class PreferenceWeights(nn.Module):
    """Encoded profiles INT64 (B, F) → favours (B, V)."""

    weights: Tensor  # (P, V), a row for each entry of a profile

    def __init__(self, schema: FeatureSchema, vocabulary: Vocabulary, weights: Tensor | None = None) -> None:
        super().__init__()
        self.schema, self.vocabulary = schema, vocabulary
        shape = (n_entries(rows_of(schema)), len(vocabulary.phrases))
        self.register_buffer("weights", torch.zeros(shape) if weights is None else _centred(weights, vocabulary))

    def forward(self, features: Tensor) -> Tensor:
        return F.embedding(entries_of(features, rows_of(self.schema)), self.weights).sum(1)

    def of(self, features: np.ndarray) -> np.ndarray:
        """The favours of these profiles, (B, F) → float32 (B, V)."""
        favours: np.ndarray = self(torch.from_numpy(np.ascontiguousarray(features))).numpy()
        return favours

    def save(self, directory: Path) -> None:
        """config.json and the weights."""
        config = {"schema": self.schema.to_json(), "vocabulary": self.vocabulary.to_json()}
        save_weights(directory, WEIGHTS_FILE, config, dict(self.state_dict()))

    @classmethod
    def load(
        cls, directory: Path, schema: FeatureSchema | None = None, vocabulary: Vocabulary | None = None
    ) -> "PreferenceWeights":
        """The weights that `save` wrote.

        Args:
            schema, vocabulary: if given, the weights must be of these.

        Raises:
            WeightsError: they cannot be read, or are of another schema or vocabulary.
        """
        config = read_config(directory)
        with reading(directory):
            own = FeatureSchema.from_json(config["schema"]), Vocabulary.from_json(config["vocabulary"])
        if schema is not None and (differs := own[0].difference(schema)):
            raise WeightsError(f"{directory} was fitted with another feature schema: {differs}")
        if vocabulary is not None and vocabulary != own[1]:
            raise WeightsError(f"{directory} was fitted with another vocabulary")
        weights = cls(*own)
        load_weights(weights, set(weights.state_dict()), directory / WEIGHTS_FILE)
        return weights


def fit(
    tags: np.ndarray, groups: GroupTensors, vocabulary: Vocabulary, decays: Sequence[float] = DECAYS
) -> PreferenceWeights:
    """The weights of these groups, whose candidates show `tags` int64 (N, K, kinds).

    The weight decay is the one that predicts the picks of the last tenth of the groups best; the population average has
    a hundredth of it. Groups without information give weights of zero.

    Raises:
        GroupError: there are too few groups.
    """
    training, held_out = _choices(tags, groups, vocabulary)
    found = [training.fitted(decay) for decay in tqdm(decays, desc="fitting preference weights", mininterval=2)]
    found.append(torch.zeros_like(found[0]))
    best = min(found, key=lambda weights: held_out.losses(weights).mean().item())
    return PreferenceWeights(groups.schema, vocabulary, best)


def held_out_losses(model: PreferenceWeights, tags: np.ndarray, groups: GroupTensors) -> np.ndarray:
    """Cross-entropy of the picks of each of the last tenth of the groups, in nats, (H,)."""
    _, held_out = _choices(tags, groups, model.vocabulary)
    return held_out.losses(model.weights).numpy()


@dataclass(frozen=True)
class _Choices:
    """N groups with profiles, candidates and picks. A profile with several groups has its favours computed once."""

    places: Tensor  # (N, K, kinds) of what is shown in the flat favours of all profiles (U, V + 1); last: kind absent
    entries: Tensor  # (U, E) of the distinct profiles
    selected: Tensor  # (N, K)
    there: Tensor  # (N, K)
    shape: tuple[int, int]  # (P, V) of the weights

    def rows(self, rows: slice) -> "_Choices":
        return _Choices(self.places[rows], self.entries, self.selected[rows], self.there[rows], self.shape)

    def losses(self, weights: Tensor) -> Tensor:
        """Cross-entropy of the conditional logit with weights (P, V), (N,)."""
        favours = F.pad(F.embedding_bag(self.entries, weights, mode="sum"), (0, 1)).flatten()  # (U · (V + 1),)
        utility = favours[self.places].sum(-1)  # (N, K)
        return reward_cross_entropy(utility, self.selected, self.there)

    def fitted(self, decay: float) -> Tensor:
        """Weights (P, V) after STEPS steps of Adam."""
        weights = torch.zeros(self.shape, requires_grad=True)
        optimizer = torch.optim.Adam([weights], lr=0.05)
        for _ in range(STEPS):
            optimizer.zero_grad()
            penalty = weights[:-1].square().sum() + OF_AVERAGE * weights[-1].square().sum()
            (self.losses(weights).mean() + decay * penalty).backward()
            optimizer.step()
        return weights.detach()


def _choices(tags: np.ndarray, groups: GroupTensors, vocabulary: Vocabulary) -> tuple[_Choices, _Choices]:
    """The groups with information, and the last tenth of them."""
    rows = groups.rows_with(negatives=True)
    if len(rows) < LEAST_GROUPS:
        raise GroupError(f"{len(rows)} groups have both a pick and what was passed over; {LEAST_GROUPS} are the least")
    n_rows, n_phrases = rows_of(groups.schema), len(vocabulary.phrases)
    profiles, whose = np.unique(np.asarray(groups.features[rows]), axis=0, return_inverse=True)
    shown, starts = tags[rows], np.cumsum([0, *vocabulary.sizes[:-1]])
    phrases = np.where(shown == ABSENT, n_phrases, starts + shown)  # (N, K, kinds)
    choices = _Choices(
        torch.from_numpy(phrases + (n_phrases + 1) * whose.reshape(-1, 1, 1)),
        entries_of(torch.from_numpy(profiles), n_rows),
        torch.tensor(groups.selected[rows]),
        torch.tensor(groups.there[rows]),
        (n_entries(n_rows), n_phrases),
    )
    last = len(rows) - len(rows) // 10
    return choices.rows(slice(None, last)), choices.rows(slice(last, None))


def rows_of(schema: FeatureSchema) -> tuple[int, ...]:
    """How many codes each slot has."""
    return tuple(feature.n_rows for feature in schema.features for _ in range(feature.n_slots))


def n_entries(n_rows: Sequence[int]) -> int:
    """P, the length of a profile as a vector of zeros and ones, for slots with these numbers of codes."""
    return sum(n_rows) + sum(n_rows[one] * n_rows[two] for one, two in _pairs(n_rows)) + 1


def entries_of(features: Tensor, n_rows: Sequence[int]) -> Tensor:
    """The indices of the ones in profiles' vectors, (N, F): codes, products, average; int64 (N, F + pairs + 1)."""
    pairs = _pairs(n_rows)
    columns = [features[:, slot] for slot in range(len(n_rows))]
    products = [columns[one] * n_rows[two] + columns[two] for one, two in pairs]
    sizes = [*n_rows, *(n_rows[one] * n_rows[two] for one, two in pairs)]
    starts = torch.tensor([0, *sizes]).cumsum(0)
    return torch.stack([*columns, *products, torch.zeros_like(columns[0])], dim=1) + starts


def _pairs(n_rows: Sequence[int]) -> list[tuple[int, int]]:
    return [(i, j) for i, j in combinations(range(len(n_rows)), 2) if n_rows[i] * n_rows[j] <= MOST_PRODUCTS]


def _centred(weights: Tensor, vocabulary: Vocabulary) -> Tensor:
    """Weights (P, V) less the mean of each kind's phrases: only differences within a kind decide."""
    return torch.cat([part - part.mean(1, keepdim=True) for part in weights.split(vocabulary.sizes, dim=1)], dim=1)
