"""From table to tensors: nothing usable is lost, nothing unusable is silent."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from contract.feature_schema import FeatureSchema
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
    (made,) = (tmp_path / "cache").iterdir()
    stamp = (made / "images.npy").stat().st_mtime_ns
    prepare(tmp_path / "table", tmp_path / "cache", tokenizer, 16)
    assert (made / "images.npy").stat().st_mtime_ns == stamp
    prepare(tmp_path / "table", tmp_path / "cache", tokenizer, 8)
    assert len(list((tmp_path / "cache").iterdir())) == 2


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


def test_shuffling_keeps_the_phrases() -> None:
    prompt = "dress, v-neck,long sleeves"
    worded = {shuffled(prompt, np.random.default_rng(seed)) for seed in range(20)}
    assert len(worded) == 6
    assert {tuple(sorted(w.split(","))) for w in worded} == {("dress", "long sleeves", "v-neck")}
