"""What users like, in words: the choice model finds tastes it was never told, and wishes only for what is open."""

from pathlib import Path

import numpy as np
import pytest
import torch

from contract.feature_schema import Feature, FeatureSchema
from contract.vocabulary import Vocabulary
from lab.market.attributes import complete, to_indices
from lab.market.prompts import PHRASE_OF, parse, vocabulary
from training.data.groups import GroupTensors
from training.wishes import preferences as keywords
from training.wishes.preferences import wish
from training.wishes.tagging import tag_vectors

VOCABULARY = vocabulary()
SCHEMA = FeatureSchema((Feature("style", "categorical", ("minimalist", "luxury")),))


@pytest.fixture(scope="module")
def model() -> keywords.KeywordModel:
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
    tags = np.array([[to_indices(garment) for garment in group] for group in garments])
    groups = GroupTensors(SCHEMA, features, selected, np.zeros((n, 1, 77), np.int64))
    return keywords.fit(tags, groups, VOCABULARY)


def test_each_profile_s_favourite_is_found(model: keywords.KeywordModel) -> None:
    minimalist, luxury = model.favours(np.array([[1], [2]]))
    assert VOCABULARY.phrases[int(np.argmax(minimalist))] == ("sleeve_style", "bell sleeves")
    assert VOCABULARY.phrases[int(np.argmax(luxury))] == ("trim", "sequins")


def test_only_what_the_prompt_leaves_open_is_wished_for(model: keywords.KeywordModel) -> None:
    (favours,) = model.favours(np.array([[1]]))
    wished = wish(VOCABULARY, "dress,long sleeves", favours, most=1, least=0.5)
    assert wished == ["bell sleeves"]
    assert "bell sleeves" not in keywords.wish(
        VOCABULARY, "dress,long sleeves,puff sleeves", favours, most=9, least=0.0
    )
    assert "bell sleeves" not in keywords.wish(
        VOCABULARY, "skirt", favours, most=9, least=0.0
    )  # a skirt has no sleeves
    assert wish(VOCABULARY, "dress", favours, most=9, least=99.0) == []


def test_a_wished_prompt_keeps_what_was_asked(model: keywords.KeywordModel) -> None:
    prompts = ["dress,v-neck,long sleeves", "coat,red"]
    for prompt, wished in zip(prompts, keywords.wishes(model, prompts, np.array([[1], [2]])), strict=True):
        assert wished.startswith(prompt)
        assert parse(prompt).items() <= parse(wished).items()


def test_tags_are_one_hot_and_absent_kinds_nothing() -> None:
    rng = np.random.default_rng(1)
    skirt = complete({"category": "skirt"}, rng)
    vector = tag_vectors(to_indices(skirt), VOCABULARY.sizes)
    said = {VOCABULARY.phrases[i] for i in np.flatnonzero(vector.numpy())}
    assert said == {(kind, PHRASE_OF[kind, value]) for kind, value in skirt.items()}


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
    tags = np.array([[to_indices(garment) for garment in group] for group in garments])
    model = keywords.fit(tags, GroupTensors(schema, features, selected, np.zeros((n, 1, 77), np.int64)), VOCABULARY)
    for profile, style in (([1, 1], "bell"), ([2, 2], "bell"), ([1, 2], "puff"), ([2, 1], "puff")):
        (favours,) = model.favours(np.array([profile]))
        assert wish(VOCABULARY, "dress,long sleeves", favours, most=1, least=0.5) == [PHRASE_OF["sleeve_style", style]]


def test_a_model_is_kept(model: keywords.KeywordModel, tmp_path: Path) -> None:
    model.save(tmp_path / "keywords.npz")
    kept = keywords.KeywordModel.load(tmp_path / "keywords.npz")
    assert kept.n_rows == model.n_rows and torch.equal(kept.weights, model.weights)


def test_a_profile_of_very_many_codes_has_no_products() -> None:
    n_rows = (100_000, 300_000, 3)
    features = np.array([[99_999, 299_999, 2], [0, 0, 0]])
    entries = keywords.entries_of(features, n_rows)
    assert keywords.n_entries(n_rows) == 400_003 + 1  # the products would be 30,000,000,000
    assert entries.shape == (2, 4) and int(entries.max()) == 400_003
    assert torch.equal(entries[1], torch.tensor([0, 100_000, 400_000, 400_003]))


def test_the_only_phrase_of_a_kind_is_never_wished(model: keywords.KeywordModel) -> None:
    entries = [{"kind": "category", "phrases": ["dress"]}, {"kind": "belt", "phrases": ["belted"]}]
    words = Vocabulary.from_json([*entries, {"kind": "hem", "phrases": ["raw hem", "plain hem"]}])
    assert wish(words, "dress", np.array([0.0, 5.0, 1.0, -1.0])) == ["raw hem"]


def test_groups_that_tell_nothing_give_favours_of_nothing() -> None:
    """Few groups, picked at random: what every weight decay learns predicts the rest worse than nothing does."""
    rng = np.random.default_rng(4)
    tags = np.array([[to_indices(complete({"category": "dress"}, rng)) for _ in range(3)] for _ in range(30)])
    selected = np.eye(3, dtype=bool)[rng.integers(0, 3, 30)]
    groups = GroupTensors(SCHEMA, rng.integers(1, 3, (30, 1)), selected, np.zeros((30, 1, 77), np.int64))
    random = keywords.fit(tags, groups, VOCABULARY)
    assert keywords.held_out_losses(random, tags, groups).mean() <= np.log(3) + 1e-6
