"""The services encode a profile as the training that made their encoder did; neither half imports the other."""

import random
from typing import Any

from contract.feature_schema import FeatureSchema as TrainingSchema
from lab.market.merchants import FEATURE_SCHEMA
from services.runtime.feature_schema import FeatureSchema
from services.user_embedding.profiles import Value, encode, violations

EDGES = (0.0, 0.5, 1.0, 2.999, 3.0, 5.0, 6.0, 10.0, 19.99, 20.0, 50.0)


def drawn(rng: random.Random, extra: tuple[str, ...]) -> dict[str, Value]:
    """A profile with some features missing; `extra` are words that the schema does not know."""
    profile: dict[str, Value] = {}
    for feature in FeatureSchema.parse(FEATURE_SCHEMA).features:
        words = [*feature.vocabulary, *extra]
        drawn_value: dict[str, Any] = {
            "categorical": lambda words=words: rng.choice(words),
            "multi": lambda words=words: tuple(rng.sample(words, rng.randint(0, 3))),
            "numeric": lambda: rng.choice([*EDGES, rng.uniform(0, 50)]),
        }
        if rng.random() < 0.8:
            profile[feature.name] = drawn_value[feature.kind]()
    return profile


def test_profiles_that_may_be_stored_are_encoded_alike() -> None:
    rng = random.Random(0)
    ours, theirs = FeatureSchema.parse(FEATURE_SCHEMA), TrainingSchema.from_json(FEATURE_SCHEMA)
    assert ours.slots == theirs.n_slots
    for _ in range(500):
        profile = drawn(rng, extra=())
        assert violations(ours, profile) == []
        assert list(encode(ours, profile)) == theirs.encode(profile, strict=True)


def test_words_that_a_schema_dropped_are_encoded_alike() -> None:
    rng = random.Random(1)
    ours, theirs = FeatureSchema.parse(FEATURE_SCHEMA), TrainingSchema.from_json(FEATURE_SCHEMA)
    for _ in range(500):
        profile = drawn(rng, extra=("gone", "also gone"))
        assert list(encode(ours, profile)) == theirs.encode(profile, strict=False)
