"""Latents of pictures: made once, and again when any picture is another."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contract.feature_schema import FeatureSchema
from training.data.groups import GroupError, GroupTensors
from training.data.load import with_latents
from training.models.family import FamilyPaths


@pytest.fixture
def pictures(schema: FeatureSchema) -> GroupTensors:
    n = 130  # more than a sample would look at
    images = np.random.default_rng(0).integers(0, 256, (n, 2, 16, 16, 3)).astype(np.uint8)
    ids = np.zeros((n, 1, 77), np.int64)
    return GroupTensors(schema, np.ones((n, 4), np.int64), np.arange(2 * n).reshape(n, 2) % 2 == 0, ids, images=images)


def test_they_are_made_once_for_the_same_pictures(pictures: GroupTensors, family: FamilyPaths, tmp_path: Path) -> None:
    first = with_latents(pictures, family.vae(), tmp_path)
    [kept] = tmp_path.iterdir()
    made = kept.stat().st_mtime_ns
    assert np.array_equal(np.asarray(first.latents), np.asarray(with_latents(pictures, family.vae(), tmp_path).latents))
    assert kept.stat().st_mtime_ns == made and first.images is None


@pytest.mark.parametrize("which", [0, 1, 64, 129])
def test_one_other_picture_makes_them_anew(
    pictures: GroupTensors, family: FamilyPaths, tmp_path: Path, which: int
) -> None:
    before = np.asarray(with_latents(pictures, family.vae(), tmp_path).latents)
    assert pictures.images is not None
    pictures.images[which, 1] = 255 - pictures.images[which, 1]
    after = np.asarray(with_latents(pictures, family.vae(), tmp_path).latents)
    differs = (before != after).any((2, 3, 4))
    assert differs.sum() == 1 and differs[which, 1]


def test_latents_need_pictures(pictures: GroupTensors, family: FamilyPaths, tmp_path: Path) -> None:
    with pytest.raises(GroupError, match="latents are made from images"):
        with_latents(replace(pictures, images=None), family.vae(), tmp_path)
