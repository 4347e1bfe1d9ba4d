"""Preference weights: what they say of a profile, and which files they are read from."""

from pathlib import Path

import pytest
import torch

from contract.feature_schema import Feature, FeatureSchema
from contract.vocabulary import Vocabulary
from lab.market.prompts import vocabulary
from training.common.errors import WeightsError
from training.wishes.preferences import PreferenceWeights, entries_of, n_entries, rows_of

VOCABULARY = vocabulary()
SCHEMA = FeatureSchema((Feature("style", "categorical", ("minimalist", "luxury")),))


@pytest.fixture
def model() -> PreferenceWeights:
    torch.manual_seed(0)
    return PreferenceWeights(SCHEMA, VOCABULARY, torch.randn(n_entries(rows_of(SCHEMA)), len(VOCABULARY.phrases)))


def test_favours_are_centred_within_each_kind(model: PreferenceWeights) -> None:
    favours = model(torch.tensor([[0], [1], [2]]))
    for of_kind in favours.split(VOCABULARY.sizes, dim=1):
        torch.testing.assert_close(of_kind.mean(1), torch.zeros(3), atol=1e-5, rtol=0)


def test_weights_are_kept_to_half_precision(model: PreferenceWeights, tmp_path: Path) -> None:
    model.save(tmp_path)
    kept = PreferenceWeights.load(tmp_path, SCHEMA, VOCABULARY)
    assert (kept.schema, kept.vocabulary) == (SCHEMA, VOCABULARY)
    torch.testing.assert_close(kept.weights, model.weights, rtol=1e-3, atol=1e-5)
    assert PreferenceWeights.load(tmp_path).weights.dtype == torch.float32
    kept.save(tmp_path / "again")
    again = PreferenceWeights.load(tmp_path / "again")
    torch.testing.assert_close(again.weights, kept.weights, rtol=0, atol=0)


def test_weights_of_something_else_are_refused(model: PreferenceWeights, tmp_path: Path) -> None:
    model.save(tmp_path)
    other_schema = FeatureSchema((Feature("style", "categorical", ("minimalist", "luxury", "grunge")),))
    other_words = Vocabulary(VOCABULARY.kinds[:-1])
    with pytest.raises(WeightsError, match="was fitted with another feature schema"):
        PreferenceWeights.load(tmp_path, other_schema)
    with pytest.raises(WeightsError, match="was fitted with another vocabulary"):
        PreferenceWeights.load(tmp_path, SCHEMA, other_words)
    PreferenceWeights(SCHEMA, other_words).save(tmp_path / "other")
    (tmp_path / "preferences.safetensors").write_bytes((tmp_path / "other" / "preferences.safetensors").read_bytes())
    with pytest.raises(WeightsError, match=r"preferences\.safetensors: weights is \(4, \d+\), expected \(4, 51\)"):
        PreferenceWeights.load(tmp_path)


def test_weights_that_are_missing_or_damaged_are_named(model: PreferenceWeights, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"config\.json is missing"):
        PreferenceWeights.load(tmp_path)
    model.save(tmp_path)
    (tmp_path / "preferences.safetensors").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=r"preferences\.safetensors cannot be read"):
        PreferenceWeights.load(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match="cannot be read: 'schema'"):
        PreferenceWeights.load(tmp_path)


def test_an_unknown_value_has_a_code_of_its_own_and_every_profile_the_average(schema: FeatureSchema) -> None:
    n_rows = rows_of(schema)
    assert n_rows == (3, 4, 4, 5)
    entries = entries_of(torch.tensor([[1, 1, 3, 2], [0, 0, 0, 0]]), n_rows)
    assert entries.shape == (2, 4 + 6 + 1)  # codes, pairs, the average
    assert len(set(entries[0].tolist())) == 11 and not set(entries[0, :-1].tolist()) & set(entries[1, :-1].tolist())
    assert entries[:, -1].tolist() == [n_entries(n_rows) - 1] * 2


def test_a_profile_of_very_many_codes_has_no_products() -> None:
    n_rows = (100_000, 300_000, 3)
    entries = entries_of(torch.tensor([[99_999, 299_999, 2], [0, 0, 0]]), n_rows)
    assert n_entries(n_rows) == 400_003 + 1  # the products would be 30,000,000,000
    assert entries.shape == (2, 4) and int(entries.max()) == 400_003
    assert torch.equal(entries[1], torch.tensor([0, 100_000, 400_000, 400_003]))
