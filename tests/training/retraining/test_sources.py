"""Groups and their pictures: each read once, whatever a table holds beside them, and left out by reason."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contract.feature_schema import FeatureSchema
from lab.market.prompts import vocabulary
from tests.training.retraining.shops import shown, table
from training.data.prepare import decode
from training.data.table import Candidate, Group
from training.models.family import TINY, FamilyPaths
from training.retraining.sources import PictureCache, key_of
from training.wishes.tagging import ABSENT, Tagger

SIZE_PX, K = 64, 3


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return Tagger(FamilyPaths.under(TINY), vocabulary())


@pytest.fixture(scope="module")
def groups() -> list[Group]:
    return list(shown(4, "g"))


def test_tags_and_pixels_are_those_of_the_pictures_in_any_order(
    tmp_path: Path, schema: FeatureSchema, tagger: Tagger, groups: list[Group]
) -> None:
    cache = PictureCache(tmp_path / "cache", tagger, SIZE_PX, pixels=True)
    source = cache.read(table(tmp_path / "table", groups, schema), {"g0", "g2", "g3"}, "table")
    assert [group.group_id for group in source.groups] == ["g0", "g2", "g3"] and source.left_out == {}
    assert all(candidate.image is None for group in source.groups for candidate in group.candidates)
    rows = np.array([4, 0, 2])
    tags = np.full((5, K + 1, len(vocabulary().kinds)), ABSENT, np.int64)
    pixels = np.zeros((5, K + 1, SIZE_PX, SIZE_PX, 3), np.uint8)
    cache.fill_tags(source, tags, rows)
    cache.fill_pixels(source, pixels, rows)
    for row, group in zip(rows, (groups[0], groups[2], groups[3]), strict=True):
        shown_px = np.stack([decode(candidate.image or b"", SIZE_PX) for candidate in group.candidates])
        np.testing.assert_array_equal(pixels[row, :K], shown_px)
        np.testing.assert_array_equal(tags[row, :K], tagger(shown_px))
    assert (tags[[1, 3]] == ABSENT).all() and (tags[:, K] == ABSENT).all() and not pixels[:, K].any()


def test_another_run_reads_nothing_again_but_pixels_that_it_did_not_keep(
    tmp_path: Path, schema: FeatureSchema, tagger: Tagger, groups: list[Group], monkeypatch: pytest.MonkeyPatch
) -> None:
    data, ids = table(tmp_path / "table", groups, schema), {group.group_id for group in groups}
    PictureCache(tmp_path / "cache", tagger, SIZE_PX, pixels=False).read(data, ids, "table")
    with monkeypatch.context() as patch:
        patch.setattr("training.retraining.sources.decode", None)  # not called
        again = PictureCache(tmp_path / "cache", tagger, SIZE_PX, pixels=False)
        assert len(again.read(data, ids, "table").groups) == len(groups)
    with_pixels = PictureCache(tmp_path / "cache", tagger, SIZE_PX, pixels=True)
    with_pixels.read(data, ids, "table")
    assert with_pixels.pixels is not None and len(with_pixels.pixels) == len(with_pixels.tags) == len(groups) * K
    with_pixels.forget_others(with_pixels.read(data, {"g1"}, "table"))
    assert len(PictureCache(tmp_path / "cache", tagger, SIZE_PX, pixels=False).tags) == K


def test_groups_that_cannot_be_used_are_counted(
    tmp_path: Path, schema: FeatureSchema, tagger: Tagger, groups: list[Group]
) -> None:
    good, first = groups[0], groups[0].candidates[0]
    broken = {
        "fewer than two candidates": replace(good, group_id="one", candidates=(first,)),
        "an empty prompt": replace(good, group_id="blank", prompt=" , "),
        "a picture that cannot be decoded": replace(
            good, group_id="damaged", candidates=(first, Candidate("d", False, b"no picture"))
        ),
        "a picture that its uri does not give": replace(
            good, group_id="gone", candidates=(first, Candidate("g", False, uri=(tmp_path / "gone.png").as_uri()))
        ),
    }
    data = table(tmp_path / "table", [good, *broken.values()], schema)
    ids = {"g0", *(group.group_id for group in broken.values())}
    source = PictureCache(tmp_path / "cache", tagger, SIZE_PX, pixels=False).read(data, ids, "table")
    assert [group.group_id for group in source.groups] == ["g0"] and source.left_out == dict.fromkeys(broken, 1)


def test_a_file_that_changed_is_another_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    candidate = Candidate("a", True, uri=path.as_uri())
    before = key_of(candidate)
    assert key_of(candidate) == before
    path.write_bytes(b"longer")
    assert key_of(candidate) != before
    assert key_of(Candidate("b", False, b"one")) == key_of(Candidate("c", True, b"one"))
