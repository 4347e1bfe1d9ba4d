"""From table to tensors: nothing usable is lost, nothing unusable is silent."""

import io
import json
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image, ImageOps

from contract.feature_schema import FeatureSchema
from contract.pictures import PictureLimits, opened, square
from tests.contract.picture_makers import encoded, exchanged
from training.data.prepare import decode, prepare, shuffled
from training.data.table import Candidate, Group, TableError, write_table
from training.models.family import FamilyPaths


def png(grey: int, size: tuple[int, int] = (16, 16)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (grey, grey, grey)).save(buffer, "PNG")
    return buffer.getvalue()


def pair(name: str, first: Candidate | None = None, **profile: object) -> Group:
    first = first or Candidate("a", True, png(10))
    return Group(name, f"user-{name}", "dress,red", (first, Candidate("b", False, png(200))), profile)


def test_tensors_are_what_the_rows_say(tmp_path: Path, schema: FeatureSchema, family: FamilyPaths) -> None:
    three = Group("g2", "u2", "red", tuple(Candidate(str(n), n == 2, png(n)) for n in range(3)), {"years_open": 2.0})
    write_table(tmp_path / "table", [pair("g1", style="luxury", audience=["teen"]), three], schema)
    groups = prepare(tmp_path / "table", tmp_path / "cache", family.reward_tokenizer(), 16)
    assert groups.images is not None and groups.images.shape == (2, 3, 16, 16, 3)
    assert groups.images[0, :2, 0, 0, 0].tolist() == [10, 200]
    assert groups.there.tolist() == [[True, True, False], [True, True, True]]
    assert groups.selected.tolist() == [[True, False, False], [False, False, True]]
    assert groups.features.tolist() == [[2, 1, 0, 0], [0, 0, 0, 2]]
    assert groups.input_ids.shape == (2, 4, 77)
    assert groups.group_ids is not None and groups.group_ids.tolist() == ["g1", "g2"]


def test_what_cannot_be_used_is_counted_by_its_reason(
    tmp_path: Path, schema: FeatureSchema, family: FamilyPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        pair("good"),
        pair("good"),
        pair("broken", Candidate("a", True, b"\x89PNG no more")),
        pair("cut", Candidate("a", True, png(5)[:60])),
        pair("nowhere", Candidate("a", True)),
        pair("gone", Candidate("a", True, uri=f"file://{tmp_path}/no.png")),
        Group("alone", "u", "dress", (Candidate("a", True, png(1)),)),
        Group("silent", "u", "  ", pair("x").candidates),
        Group("undecided", "u", "dress", tuple(Candidate(c.image_id, False, c.image) for c in pair("x").candidates)),
        pair("newcomer", style="unheard-of"),
    ]
    write_table(tmp_path / "table", rows, schema)
    groups = prepare(tmp_path / "table", tmp_path / "cache", family.reward_tokenizer(), 16)
    assert groups.group_ids is not None and groups.group_ids.tolist() == ["good", "undecided", "newcomer"]
    assert groups.images is not None and groups.images.shape[:2] == (3, 2)
    (report,) = (json.loads(path.read_text()) for path in (tmp_path / "cache").glob("*/report.json"))
    assert report["left_out"] == {
        "duplicate group_id": 1,
        "a picture that cannot be decoded": 2,
        "a candidate with neither image nor uri": 1,
        "a picture that its uri does not give": 1,
        "fewer than two candidates": 1,
        "empty prompt": 1,
    }
    assert report["without_selection"] == 1
    assert report["missing"] == {"style": 2, "audience": 3, "years_open": 3}
    assert report["unknown"] == {"style": 1}
    assert "left out: 2 groups, a picture that cannot be decoded" in capsys.readouterr().out


def test_the_same_table_is_prepared_once(tmp_path: Path, schema: FeatureSchema, family: FamilyPaths) -> None:
    write_table(tmp_path / "table", [pair("g1")], schema)
    tokenizer = family.reward_tokenizer()
    prepare(tmp_path / "table", tmp_path / "cache", tokenizer, 16)
    (made,) = (tmp_path / "cache").glob("*px-*[0-9a-f]/")
    stamp = (made / "images.npy").stat().st_mtime_ns
    prepare(tmp_path / "table", tmp_path / "cache", tokenizer, 16)
    assert (made / "images.npy").stat().st_mtime_ns == stamp
    prepare(tmp_path / "table", tmp_path / "cache", tokenizer, 8)
    assert len(list((tmp_path / "cache").glob("*px-*[0-9a-f]/"))) == 2


def test_what_a_profile_has_beyond_the_schema_is_left_out_and_counted(
    tmp_path: Path, schema: FeatureSchema, family: FamilyPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [pair("g1", shoe_size=9, style="luxury"), pair("g2", shoe_size=8, audience=["teen", "office", "party"])]
    write_table(tmp_path / "table", rows, schema)
    groups = prepare(tmp_path / "table", tmp_path / "cache", family.reward_tokenizer(), 16)
    assert groups.features.tolist() == [[2, 0, 0, 0], [0, 1, 2, 0]]  # as the service encodes them
    told = capsys.readouterr().out
    assert "shoe_size: something unknown in 2 groups, left out" in told
    assert "audience: something unknown in 1 groups, left out" in told  # more values than there are slots
    assert "no style in 1 groups" in told and "style: something unknown" not in told


def test_a_table_without_a_usable_group_is_an_error(tmp_path: Path, schema: FeatureSchema, family: FamilyPaths) -> None:
    write_table(tmp_path / "table", [pair("g1", Candidate("a", True, b"no"))], schema)
    with pytest.raises(TableError, match="no group can be used"):
        prepare(tmp_path / "table", tmp_path / "cache", family.reward_tokenizer(), 16)


def test_pictures_keep_their_middle() -> None:
    wide = np.zeros((16, 48, 3), np.uint8)
    wide[:, 16:32] = 255
    buffer = io.BytesIO()
    Image.fromarray(wide).save(buffer, "PNG")
    assert decode(buffer.getvalue(), 16).min() == 255
    assert decode(png(7, (20, 50)), 8).tolist() == np.full((8, 8, 3), 7).tolist()


def test_pictures_are_seen_as_the_services_see_them() -> None:
    rng, exif = np.random.default_rng(0), Image.Exif()
    exif[0x0112] = 6
    transparent = Image.fromarray(rng.integers(0, 256, (40, 30, 4), np.uint8))
    deep = Image.fromarray(rng.integers(0, 2**16, (30, 40), np.uint16))
    for data in (
        encoded(transparent),
        encoded(transparent.convert("RGB"), "JPEG", exif=exif, icc_profile=exchanged()),
        encoded(deep),
    ):
        served = square(opened(data, PictureLimits(10**6, 10**6)), 16)
        np.testing.assert_array_equal(decode(data, 16), served)


def test_shuffling_keeps_the_phrases() -> None:
    prompt = "dress, v-neck,long sleeves"
    worded = {shuffled(prompt, np.random.default_rng(seed)) for seed in range(20)}
    assert len(worded) == 6
    assert {tuple(sorted(w.split(","))) for w in worded} == {("dress", "long sleeves", "v-neck")}


def uri_pair(name: str, path: Path) -> Group:
    return pair(name, Candidate("a", True, uri=path.as_uri()))


def test_pictures_in_folders_with_spaces_are_read_and_a_changed_one_is_read_again(
    tmp_path: Path, schema: FeatureSchema, family: FamilyPaths
) -> None:
    folder = tmp_path / "my pictüres 100%"
    folder.mkdir()
    (folder / "a b.png").write_bytes(png(10))
    write_table(folder / "my table", [uri_pair("g1", folder / "a b.png")], schema)

    def first() -> int:
        groups = prepare(folder / "my table", tmp_path / "cache", family.reward_tokenizer(), 16)
        return int(np.asarray(groups.images)[0, 0, 0, 0, 0])

    assert first() == 10
    (folder / "a b.png").write_bytes(png(90))
    assert first() == 90


def test_a_file_that_was_missing_is_read_when_it_is_there(
    tmp_path: Path, schema: FeatureSchema, family: FamilyPaths
) -> None:
    write_table(tmp_path / "table", [pair("g1"), uri_pair("g2", tmp_path / "late.png")], schema)
    assert len(prepare(tmp_path / "table", tmp_path / "cache", family.reward_tokenizer(), 16)) == 1
    (tmp_path / "late.png").write_bytes(png(5))
    assert len(prepare(tmp_path / "table", tmp_path / "cache", family.reward_tokenizer(), 16)) == 2


def test_a_picture_elsewhere_that_failed_is_tried_again_and_others_are_not(
    tmp_path: Path,
    schema: FeatureSchema,
    family: FamilyPaths,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    far, asked = fsspec.filesystem("memory"), list[str]()
    far.pipe("/here.png", png(7))
    rows = [pair(f"g{n}", Candidate("a", True, uri=f"memory://{n}.png")) for n in ("here", "late")]
    write_table(tmp_path / "table", [replace(rows[0], group_id="g1"), rows[1]], schema)
    real = fsspec.open
    monkeypatch.setattr(fsspec, "open", lambda uri, *how, **more: (asked.append(uri), real(uri, *how, **more))[1])

    def prepared() -> int:
        return len(prepare(tmp_path / "table", tmp_path / "cache", family.reward_tokenizer(), 16))

    assert prepared() == 1 and "memory://late.png: 1 pictures could not be read" in capsys.readouterr().out
    asked.clear()
    assert prepared() == 1 and asked == ["memory://late.png"]
    far.pipe("/late.png", png(8))
    assert prepared() == 2
    asked.clear()
    assert prepared() == 2 and asked == []


@pytest.mark.parametrize("transposed", [1, 3, 6, 8])
def test_a_picture_is_prepared_as_it_is_served(transposed: int) -> None:
    """Turned as EXIF says, transparency on white: both read it by the contract."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 24, 3), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = transposed
    buffers = [io.BytesIO(), io.BytesIO()]
    picture.save(buffers[0], "JPEG", exif=exif)
    picture.putalpha(Image.fromarray(np.arange(40 * 24, dtype=np.uint8).reshape(40, 24)))
    picture.save(buffers[1], "PNG", exif=exif)
    limits = PictureLimits(max_bytes=2**20, max_pixels=2**20)
    upright = []
    for content in (buffer.getvalue() for buffer in buffers):
        np.testing.assert_array_equal(decode(content, 16), served := square(opened(content, limits), 16))
        with Image.open(io.BytesIO(content)) as shown:
            turned = ImageOps.exif_transpose(shown).convert("RGBA")
        white = Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned).convert("RGB")
        upright.append(np.abs(np.asarray(ImageOps.fit(white, (16, 16), Image.Resampling.BICUBIC), int) - served).max())
    assert max(upright) <= 3
