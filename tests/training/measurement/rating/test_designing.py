"""A design says nothing of what a rater may not know, and the key says all of it."""

import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from tests.training.measurement.rating.conftest import RATERS, items_of, rated_of
from training.measurement.errors import MeasurementError
from training.measurement.rating.answers import Rated
from training.measurement.rating.designing import design_digest, small_pictures, write_design
from training.measurement.rating.items import Item
from training.measurement.rating.protocol import Protocol

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SMALL = Protocol(size_px=64)


def drawn(items: list[Item], folder: Path) -> list[Item]:
    """The items with pictures that have a profile, an orientation and a comment."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "made by an AI"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    found = []
    for item in items:
        path = folder / item.picture.with_suffix(".jpg").name
        Image.new("RGB", (80, 40), (200, 60, 10)).save(path, exif=exif, icc_profile=profile)
        found.append(Item(item.item_id, item.category, item.method, path, item.gold))
    return found


def test_pictures_are_alike_but_for_their_pixels(tmp_path: Path) -> None:
    write_design(drawn(items_of(2), tmp_path), RATERS, tmp_path / "out", SMALL, "human", 0, NOW)
    files = sorted((tmp_path / "out" / "pictures").iterdir())
    assert len(files) == 10
    for file in files:
        with Image.open(file) as image:
            assert (image.format, image.size, image.mode, image.info) == ("PNG", (64, 64), "RGB", {})
            pixels = np.asarray(image)
        assert (pixels[:, :15] == 255).all()  # upright: the picture is narrow, on white
        assert np.abs(pixels[5:-5, 20:44].astype(int) - (200, 60, 10)).max() < 4
        assert b"AI" not in file.read_bytes()[:200]


def test_a_design_tells_no_method_no_item_and_no_kind(tmp_path: Path) -> None:
    key = write_design(drawn(items_of(4), tmp_path), RATERS, tmp_path / "out", SMALL, "human", 0, NOW)
    design = json.loads((tmp_path / "out" / "design.json").read_text())
    told = json.dumps({name: of for name, of in design.items() if name != "protocol"})
    for secret in ("perfusion", "human", "coat", "dress", "gold", "repeat", "jpg"):
        assert secret not in told.replace("perfusion-rating-design", "")
    names = {picture for rater in design["raters"] for task in rater["tasks"] for picture in [task["picture"]]}
    assert names == design["pictures"].keys() == key["pictures"].keys()
    assert key["design_sha256"] == design_digest(design)


def test_every_rater_sees_whole_sets_all_gold_repeats_and_is_asked_last(rated: Rated) -> None:
    secret, kinds = rated.key["pictures"], rated.key["tasks"]
    for rater in rated.design["raters"]:
        by_kind: dict[str, list[str]] = {"first": [], "repeat": [], "gold": [], "origin": []}
        for task in rater["tasks"]:
            by_kind[kinds[task["task_id"]]["kind"]].append(task["picture"])
        assert len({task["task_id"] for task in rater["tasks"]}) == len(rater["tasks"])
        sets = [secret[picture]["set"] for picture in by_kind["first"]]
        assert all(sets.count(n) == 2 for n in sets)
        assert {secret[picture]["item_id"] for picture in by_kind["gold"]} == {"gold-0", "gold-1"}
        assert 0.05 <= len(by_kind["repeat"]) / len(by_kind["first"]) <= 0.10
        assert set(by_kind["repeat"]) | set(by_kind["origin"]) <= set(by_kind["first"])
        methods = [secret[picture]["method"] for picture in by_kind["origin"]]
        assert methods.count("human") == methods.count("perfusion") > 0
        assert [task["kind"] for task in rater["tasks"]] == sorted((t["kind"] for t in rater["tasks"]), reverse=True)
    assert len({rater["order_seed"] for rater in rated.design["raters"]}) == len(RATERS)


def test_every_set_is_rated_by_as_many_raters(rated: Rated) -> None:
    seen: dict[int, set[str]] = {}
    for rater in rated.design["raters"]:
        for task in rater["tasks"]:
            told = rated.key["pictures"][task["picture"]]
            if told["set"] is not None:
                seen.setdefault(told["set"], set()).add(rater["rater_id"])
    assert len(seen) == 20
    assert {len(raters) for raters in seen.values()} == {3}


def test_a_seed_gives_one_design() -> None:
    first, again, other = (rated_of(items_of(5), SMALL, seed) for seed in (1, 1, 2))
    assert first.design == again.design != other.design


def test_a_design_is_never_overwritten_and_needs_its_reference(tmp_path: Path) -> None:
    items = drawn(items_of(2), tmp_path)
    with pytest.raises(MeasurementError, match="none of human, perfusion"):
        write_design(items, RATERS, tmp_path / "out", SMALL, "photo", 0, NOW)
    write_design(items, RATERS, tmp_path / "out", SMALL, "human", 0, NOW)
    with pytest.raises(MeasurementError, match="not changed once it is fixed"):
        write_design(items, RATERS, tmp_path / "out", SMALL, "human", 0, NOW)


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    items = drawn(items_of(2), tmp_path)
    items[0].picture.write_bytes(b"no picture")
    with pytest.raises(MeasurementError, match=items[0].picture.name):
        write_design(items, RATERS, tmp_path / "out", SMALL, "human", 0, NOW)
    assert not (tmp_path / "out" / "design.json").exists()


def test_pictures_that_had_to_be_enlarged_are_counted_by_method(rated: Rated) -> None:
    assert small_pictures(rated.key, 768) == {"human": 0, "perfusion": 0}
    assert small_pictures(rated.key, 900) == {"human": 20, "perfusion": 20}
