"""Preference weights: the choice model finds tastes it was never told, in what words can say."""

from pathlib import Path

import numpy as np
import pytest
import torch

from contract.feature_schema import Feature, FeatureSchema
from contract.vocabulary import Vocabulary
from contract.wishes import wishes
from lab.market.attributes import complete, to_indices
from lab.market.prompts import PHRASE_OF, parse, vocabulary
from training.common.errors import WeightsError
from training.data.groups import GroupError, GroupTensors
from training.wishes.preferences import (
    LEAST_GROUPS,
    PreferenceWeights,
    entries_of,
    fit,
    held_out_losses,
    n_entries,
    rows_of,
)
from training.wishes.tagging import ABSENT

VOCABULARY = vocabulary()
SCHEMA = FeatureSchema((Feature("style", "categorical", ("minimalist", "luxury")),))
DECAYS = (1e-3, 1e-1)
Garments = list[list[dict[str, str]]]


def groups_of(schema: FeatureSchema, features: np.ndarray, selected: np.ndarray) -> GroupTensors:
    return GroupTensors(schema, features, selected, np.zeros((len(features), 1, 77), np.int64))


def tags_of(garments: Garments) -> np.ndarray:
    return np.array([[to_indices(garment) for garment in group] for group in garments])


@pytest.fixture(scope="module")
def model() -> PreferenceWeights:
    """Minimalists always pick bell sleeves where there are some, luxury sequins."""
    rng = np.random.default_rng(0)
    n, k = 600, 4
    features = rng.integers(1, 3, (n, 1))
    garments = [[complete({"category": "dress", "sleeve": "long"}, rng) for _ in range(k)] for _ in range(n)]
    liked = [("sleeve_style", "bell"), ("trim", "sequins")]
    selected = np.array(
        [
            [garment[kind] == value for garment in group]
            for group, (kind, value) in zip(garments, (liked[f - 1] for f in features[:, 0]), strict=True)
        ]
    )
    return fit(tags_of(garments), groups_of(SCHEMA, features, selected), VOCABULARY, DECAYS)


def test_each_profiles_favourite_is_found(model: PreferenceWeights) -> None:
    minimalist, luxury = model.of(np.array([[1], [2]]))
    assert VOCABULARY.phrases[int(np.argmax(minimalist))] == ("sleeve_style", "bell sleeves")
    assert VOCABULARY.phrases[int(np.argmax(luxury))] == ("trim", "sequins")


def test_a_wished_prompt_keeps_what_was_asked(model: PreferenceWeights) -> None:
    minimalist, luxury = model.of(np.array([[1], [2]]))
    assert wishes(VOCABULARY, "dress,long sleeves", minimalist)[0] == "bell sleeves"
    assert wishes(VOCABULARY, "dress", luxury)[0] == "sequins"
    assert "bell sleeves" not in wishes(VOCABULARY, "skirt", minimalist)  # a skirt has no sleeves
    for prompt, favours in (("dress,v-neck,long sleeves", minimalist), ("coat,red", luxury)):
        wished = parse(",".join([prompt, *wishes(VOCABULARY, prompt, favours)]))
        assert parse(prompt).items() <= wished.items()


def test_favours_are_centred_within_each_kind(model: PreferenceWeights) -> None:
    favours = torch.tensor(model.of(np.array([[0], [1], [2]])))
    for of_kind in favours.split(VOCABULARY.sizes, dim=1):
        torch.testing.assert_close(of_kind.mean(1), torch.zeros(3), atol=1e-5, rtol=0)


def test_what_two_features_say_together_is_found() -> None:
    """Bell sleeves where both features agree, puff sleeves where they differ: neither feature tells alone."""
    schema = FeatureSchema(tuple(Feature(name, "categorical", ("one", "two")) for name in ("style", "region")))
    rng = np.random.default_rng(2)
    n, k = 800, 3
    features = rng.integers(1, 3, (n, 2))
    garments = [[complete({"category": "dress", "sleeve": "long"}, rng) for _ in range(k)] for _ in range(n)]
    liked = np.where(features[:, 0] == features[:, 1], "bell", "puff")
    selected = np.array(
        [[g["sleeve_style"] == style for g in group] for group, style in zip(garments, liked, strict=True)]
    )
    model = fit(tags_of(garments), groups_of(schema, features, selected), VOCABULARY, DECAYS)
    for profile, style in (([1, 1], "bell"), ([2, 2], "bell"), ([1, 2], "puff"), ([2, 1], "puff")):
        (favours,) = model.of(np.array([profile]))
        assert wishes(VOCABULARY, "dress,long sleeves", favours)[0] == PHRASE_OF["sleeve_style", style]


def test_a_kind_that_no_candidate_has_is_not_favoured(schema: FeatureSchema) -> None:
    words = Vocabulary.from_json([
        {"kind": "category", "phrases": ["dress"]},
        {"kind": "belt", "phrases": ["belted"]},
        {"kind": "hem", "phrases": ["raw hem", "plain hem"]},
        {"kind": "cuff", "phrases": ["wide cuffs", "narrow cuffs"]},
    ])  # fmt: skip
    rng = np.random.default_rng(3)
    hems = np.stack([rng.permutation(2) for _ in range(60)])
    tags = np.stack([np.zeros_like(hems), np.zeros_like(hems), hems, np.full_like(hems, ABSENT)], axis=-1)
    features = np.ones((60, schema.n_slots), np.int64)
    model = fit(tags, groups_of(schema, features, hems == 0), words, DECAYS)
    (favours,) = model.of(features[:1])
    assert favours[:2].tolist() == [0, 0] and favours[4:].tolist() == [0, 0]  # only phrases, and what is never there
    assert favours[2] == pytest.approx(-favours[3]) and favours[2] > 1
    assert wishes(words, "dress", favours + np.array([0, 5, 0, 0, 0, 0]))[0] == "raw hem"  # belted is no choice


def test_groups_that_say_nothing_give_weights_of_zero_or_cost_no_more() -> None:
    """Few groups, picked at random: what every weight decay learns predicts the rest worse than nothing does."""
    rng = np.random.default_rng(4)
    tags = tags_of([[complete({"category": "dress"}, rng) for _ in range(3)] for _ in range(30)])
    selected = np.eye(3, dtype=bool)[rng.integers(0, 3, 30)]
    groups = groups_of(SCHEMA, rng.integers(1, 3, (30, 1)), selected)
    random = fit(tags, groups, VOCABULARY)
    losses = held_out_losses(random, tags, groups)
    assert losses.shape == (3,) and losses.mean() <= np.log(3) + 1e-6


def test_too_few_groups_are_refused_by_their_number() -> None:
    rng = np.random.default_rng(5)
    selected = np.eye(3, dtype=bool)[rng.integers(0, 3, 30)]
    selected[LEAST_GROUPS - 1 :] = True  # nothing was passed over
    tags = tags_of([[complete({"category": "dress"}, rng) for _ in range(3)] for _ in range(30)])
    with pytest.raises(
        GroupError, match=f"{LEAST_GROUPS - 1} groups have both a pick .*; {LEAST_GROUPS} are the least"
    ):
        fit(tags, groups_of(SCHEMA, np.ones((30, 1), np.int64), selected), VOCABULARY, DECAYS)


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
