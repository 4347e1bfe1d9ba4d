"""Groups from either form on disk; latents of pictures: made once, and again when any picture is another."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contract.feature_schema import FeatureSchema
from training.data.groups import GroupError, GroupTensors
from training.data.load import generator_groups, kept, reward_groups, with_latents
from training.data.table import Candidate, Group, is_table, write_table
from training.models.family import FamilyPaths


def png(grey: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (grey, grey, grey)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def pictures(schema: FeatureSchema) -> GroupTensors:
    n = 130  # more than a sample would look at
    images = np.random.default_rng(0).integers(0, 256, (n, 2, 16, 16, 3)).astype(np.uint8)
    ids = np.zeros((n, 1, 77), np.int64)
    return GroupTensors(schema, np.ones((n, 4), np.int64), np.arange(2 * n).reshape(n, 2) % 2 == 0, ids, images=images)


def test_they_are_made_once_for_the_same_pictures(pictures: GroupTensors, family: FamilyPaths, tmp_path: Path) -> None:
    first = with_latents(pictures, family.vae(), tmp_path)
    [kept] = tmp_path.glob("*.npy")
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


def test_a_table_and_arrays_are_read_by_what_they_are(
    pictures: GroupTensors, schema: FeatureSchema, family: FamilyPaths, tmp_path: Path
) -> None:
    groups = [
        Group(f"g{n}", "u", "dress,red", tuple(Candidate(f"{n}-{k}", k == 0, png(n + k)) for k in range(2)))
        for n in range(3)
    ]
    write_table(tmp_path / "table", groups, schema)
    pictures.save(tmp_path / "arrays")
    assert is_table(tmp_path / "table") and not is_table(tmp_path / "arrays")
    of_table, of_arrays = (reward_groups(tmp_path / name, family, tmp_path / "cache") for name in ("table", "arrays"))
    assert of_table.images is not None and of_table.images.shape == (3, 2, 32, 32, 3)  # of the reward model's size
    assert np.array_equal(np.asarray(of_arrays.images), pictures.images)
    for_generator = generator_groups(tmp_path / "table", family, tmp_path / "cache")
    assert for_generator.images is None and for_generator.latents is not None
    assert for_generator.latents.shape == (3, 2, 4, 8, 8) and np.isfinite(for_generator.latents).all()
    again = generator_groups(tmp_path / "table", family, tmp_path / "cache")
    np.testing.assert_array_equal(np.asarray(again.latents), np.asarray(for_generator.latents))


def test_an_array_is_kept_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "some" / "array.npy"

    def interrupted() -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept(path, interrupted)
    assert not path.exists()
    assert kept(path, lambda: np.arange(3)).tolist() == kept(path, interrupted).tolist() == [0, 1, 2]
