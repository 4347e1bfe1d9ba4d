"""The fit of preference weights: it finds tastes it was never told, in what words can say."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from contract.feature_schema import Feature, FeatureSchema
from contract.vocabulary import Vocabulary
from contract.wishes import wishes
from lab.market.attributes import complete, to_indices
from lab.market.prompts import PHRASE_OF, parse, vocabulary
from training.data.groups import GroupError, GroupTensors
from training.wishes.fitting import LEAST_GROUPS, _choices, fit
from training.wishes.preferences import PreferenceWeights
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
    return fit(tags_of(garments), groups_of(SCHEMA, features, selected), VOCABULARY, DECAYS).model


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
    model = fit(tags_of(garments), groups_of(schema, features, selected), VOCABULARY, DECAYS).model
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
    model = fit(tags, groups_of(schema, features, hems == 0), words, DECAYS).model
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
    assert random.losses.shape == (30,) and random.decay > 0.1 and random.loss <= np.log(3) + 1e-6


def test_few_groups_are_held_out_in_turn_and_many_once() -> None:
    rng = np.random.default_rng(6)
    for n, held_out in ((100, 100), (1_000, 600), (4_000, 800), (6_000, 600)):
        groups = groups_of(SCHEMA, rng.integers(1, 3, (n, 1)), np.eye(2, dtype=bool)[rng.integers(0, 2, n)])
        found = fit(rng.integers(0, 2, (n, 2, len(VOCABULARY.kinds))), groups, VOCABULARY, (1.0,))
        assert len(found.losses) == held_out


def test_a_group_of_weight_three_counts_as_three_groups_do() -> None:
    rng = np.random.default_rng(7)
    tags = tags_of([[complete({"category": "dress"}, rng) for _ in range(3)] for _ in range(40)])
    groups = groups_of(SCHEMA, rng.integers(1, 3, (40, 1)), np.eye(3, dtype=bool)[rng.integers(0, 3, 40)])
    weights = np.where(np.arange(40) % 2, 3, 1).astype(np.float32)
    weighted = _choices(tags, replace(groups, weights=weights), VOCABULARY)
    again = np.repeat(np.arange(40), weights.astype(int))
    repeated = _choices(tags[again], groups.rows(again), VOCABULARY)
    (one,), (other,) = (list(choices.path([0.01])) for choices in (weighted, repeated))
    assert one.abs().max() > 0.1
    torch.testing.assert_close(one, other, atol=1e-2, rtol=0)


def test_too_few_groups_are_refused_by_their_number() -> None:
    rng = np.random.default_rng(5)
    selected = np.eye(3, dtype=bool)[rng.integers(0, 3, 30)]
    selected[LEAST_GROUPS - 1 :] = True  # nothing was passed over
    tags = tags_of([[complete({"category": "dress"}, rng) for _ in range(3)] for _ in range(30)])
    with pytest.raises(
        GroupError, match=f"{LEAST_GROUPS - 1} groups have both a pick .*; {LEAST_GROUPS} are the least"
    ):
        fit(tags, groups_of(SCHEMA, np.ones((30, 1), np.int64), selected), VOCABULARY, DECAYS)
