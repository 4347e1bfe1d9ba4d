"""What candidates show: read from pictures by a CLIP that has never seen a tag."""

from dataclasses import replace

import numpy as np
import pytest

from contract.vocabulary import Vocabulary
from lab.market.attributes import complete, to_indices
from lab.market.drawing import draw
from lab.market.prompts import PHRASE_OF, vocabulary
from training.data.groups import GroupError, GroupTensors
from training.models.family import TINY, FamilyPaths
from training.wishes.tagging import ABSENT, Tagger, tag_vectors, tags_by_clip

PUBLISHED = FamilyPaths.under(TINY)


def groups_of(images: np.ndarray | None, n: int, k: int) -> GroupTensors:
    schema = PUBLISHED.schema()
    features, ids = np.zeros((n, schema.n_slots), np.int64), np.zeros((n, 1, 77), np.int64)
    return GroupTensors(schema, features, np.zeros((n, k), bool), ids, images=images)


@pytest.fixture(scope="module")
def shown() -> np.ndarray:
    """What 120 drawings show, (120, kinds)."""
    rng = np.random.default_rng(5)
    return np.stack([to_indices(complete({}, rng)) for _ in range(120)])


@pytest.fixture(scope="module")
def tags(shown: np.ndarray) -> np.ndarray:
    """What the published family's CLIP reads on those drawings."""
    rng = np.random.default_rng(5)
    images = np.stack([draw(complete({}, rng), np.random.default_rng(n)) for n in range(120)])
    groups = groups_of(images.reshape(40, 3, 64, 64, 3), 40, 3)
    return tags_by_clip(groups, Tagger(PUBLISHED, vocabulary()))


def test_the_published_clip_reads_drawings(tags: np.ndarray, shown: np.ndarray) -> None:
    assert tags.shape == (40, 3, len(vocabulary().kinds)) and tags.dtype == np.int64
    right = ((tags.reshape(shown.shape) == shown) & (shown != ABSENT)).sum(0) / (shown != ABSENT).sum(0)
    assert right.min() > 0.8 and right.mean() > 0.95, right


def test_kinds_that_a_garment_cannot_have_are_absent(tags: np.ndarray) -> None:
    names = [kind.name for kind in vocabulary().kinds]
    category, sleeve, style = (tags[..., names.index(name)] for name in ("category", "sleeve", "sleeve_style"))
    skirt = vocabulary().category.phrases.index("skirt")
    assert (category == skirt).any() and (sleeve[category == skirt] == ABSENT).all()
    sleeveless = vocabulary().kinds[names.index("sleeve")].phrases.index("sleeveless")
    assert (sleeve == sleeveless).any() and (style[sleeve == sleeveless] == ABSENT).all()
    assert (style[sleeve == ABSENT] == ABSENT).all()  # what needs something absent is absent, too
    assert (category != ABSENT).all()


def test_a_vocabulary_of_ones_own_is_read_as_well(shown: np.ndarray) -> None:
    rng = np.random.default_rng(5)
    images = np.stack([draw(complete({}, rng), np.random.default_rng(n)) for n in range(12)])
    entries = vocabulary().to_json()
    words = Vocabulary.from_json([entries[0], {"kind": "scene", "phrases": ["beach backdrop", "studio backdrop"]}])
    tags = tags_by_clip(groups_of(images.reshape(6, 2, 64, 64, 3), 6, 2), Tagger(PUBLISHED, words))
    assert tags.shape == (6, 2, 2) and set(np.unique(tags[..., 1])) <= {0, 1}
    assert (tags[..., 0].ravel() == shown[:12, 0]).mean() > 0.8


def test_groups_without_pictures_are_refused() -> None:
    with pytest.raises(GroupError, match="these groups have none"):
        tags_by_clip(replace(groups_of(None, 2, 2)), Tagger(PUBLISHED, vocabulary()))


def test_tags_are_one_hot_and_absent_kinds_nothing() -> None:
    rng = np.random.default_rng(1)
    skirt = complete({"category": "skirt"}, rng)
    vector = tag_vectors(to_indices(skirt), vocabulary().sizes)
    said = {vocabulary().phrases[i] for i in np.flatnonzero(vector.numpy())}
    assert said == {(kind, PHRASE_OF[kind, value]) for kind, value in skirt.items()}
    assert tag_vectors(np.full((2, 3, len(vocabulary().kinds)), ABSENT), vocabulary().sizes).sum() == 0
