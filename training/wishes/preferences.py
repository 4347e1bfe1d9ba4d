"""The preference weights: how much each profile favours each phrase, a choice model over tagged candidates.

A conditional logit: the utility of a candidate is tags · W · profile, where a profile is its codes and their products
two by two (taste depends on pairs of features), and one entry for the population average. Favours are in logits of a
pick, centred within each kind. training.wishes.fitting finds the weights. Knows profiles and phrases, no groups.
"""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from contract.feature_schema import FeatureSchema
from contract.vocabulary import Vocabulary
from training.common.errors import WeightsError, reading
from training.common.storage import load_weights, read_config, save_weights

WEIGHTS_FILE = "preferences.safetensors"
MOST_PRODUCTS = 10_000  # of the codes of two slots; with more, no two merchants would share one


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
