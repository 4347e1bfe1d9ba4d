"""PickaPic's own columns: duplicates, ties, rows without label or bytes."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from training.data.pickapic import Skipped, pairs, rankings, user_schema
from training.data.table import TableError

ROW = {
    "are_different": True, "has_label": True, "best_image_uid": "a", "caption": "a cat", "image_0_uid": "a",
    "image_1_uid": "b", "image_0_url": "u", "image_1_url": "u", "model_0": "m", "model_1": "m", "jpg_0": b"A",
    "jpg_1": b"B", "label_0": 1.0, "label_1": 0.0, "ranking_id": 1, "user_id": 7, "num_example_per_prompt": 1,
    "__index_level_0__": 0,
}  # fmt: skip


def file(path: Path, *changes: dict[str, object]) -> list[Path]:
    pq.write_table(pa.Table.from_pylist([ROW | change for change in changes]), path)
    return [path]


def test_every_labelled_pair_is_a_group(tmp_path: Path) -> None:
    files = file(
        tmp_path / "v1.parquet", {}, {"label_0": 0.0, "label_1": 1.0, "user_id": 8}, {"label_0": 0.5, "label_1": 0.5}
    )
    skipped = Skipped()
    groups = list(pairs(files, skipped))
    assert [[c.selected for c in g.candidates] for g in groups] == [[True, False], [False, True], [True, True]]
    assert [c.image for c in groups[0].candidates] == [b"A", b"B"]
    assert len({g.group_id for g in groups}) == 3  # uids and ranking ids repeat
    assert user_schema(files).features[0].vocabulary == ("7", "8")
    assert groups[1].features == {"user_id": "8"}
    assert not skipped.rows


def test_bytes_that_a_row_lacks_are_found_by_uid_wherever_they_lie(tmp_path: Path) -> None:
    files = [
        *file(
            tmp_path / "one.parquet", {"jpg_0": None, "image_0_uid": "later"}, {"jpg_1": b"", "image_1_uid": "never"}
        ),
        *file(tmp_path / "two.parquet", {"image_0_uid": "later", "jpg_0": b"L"}),
    ]
    skipped = Skipped()
    first, _ = pairs(files, skipped)
    assert first.candidates[0].image == b"L"
    assert skipped.rows == {"missing bytes": 1}


def test_rows_that_say_nothing_are_counted(tmp_path: Path) -> None:
    changes = [{"has_label": False}, {"label_0": None}, {"label_0": 1.0, "label_1": 1.0}, {"image_1_uid": "a"}]
    skipped = Skipped()
    assert list(pairs(file(tmp_path / "v2.parquet", *changes), skipped)) == []
    assert skipped.rows == {"no label": 2, "labels that do not add up to one": 1, "the same picture twice": 1}


def test_rankings_find_their_pictures_by_url(tmp_path: Path) -> None:
    row = {"ranking_id": 3, "user_id": 7, "prompt": "a cat", "best_image_uid": "b"}
    shown = {f"image_{n}_uid": uid for n, uid in enumerate("abcd", start=1)}
    table = [
        row | shown,
        row | shown | {"best_image_uid": "none", "image_4_uid": None},
        row | shown | {"best_image_uid": "z"},
        row | shown | {"image_4_uid": "lost"},
    ]
    pq.write_table(pa.Table.from_pylist(table), tmp_path / "rankings.parquet")
    urls = pa.table({"image_uid": list("abcd"), "url": [f"https://pictures.example/{u}.png" for u in "abcd"]})
    pq.write_table(urls, tmp_path / "images.parquet")
    skipped = Skipped()
    first, second = rankings([tmp_path / "rankings.parquet"], [tmp_path / "images.parquet"], skipped)
    assert [(c.image_id, c.selected) for c in first.candidates] == [
        ("a", False),
        ("b", True),
        ("c", False),
        ("d", False),
    ]
    assert first.candidates[2].uri == "https://pictures.example/c.png"
    assert [c.selected for c in second.candidates] == [False] * 3
    assert skipped.rows == {"a best picture that was not shown": 1, "a picture without a URL": 1}


def test_another_file_is_refused_by_its_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"caption": ["a"]}), tmp_path / "other.parquet")
    with pytest.raises(TableError, match="no column has_label, label_0"):
        next(pairs([tmp_path / "other.parquet"], Skipped()))
