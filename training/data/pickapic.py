"""PickaPic (Kirstain et al., 2023) as groups of two, and its rankings as groups of up to four.

Reads the columns of the published Parquet files, v1 and v2:

    PickaPic:  are_different, has_label, best_image_uid, caption, image_0_uid, image_1_uid, jpg_0, jpg_1,
               label_0, label_1 ∈ {0, ½, 1}, ranking_id, user_id, num_example_per_prompt, created_at, …
    PickaPic-rankings:  ranking_id, user_id, prompt, image_1_uid … image_4_uid, best_image_uid ("none": no choice)
    PickaPic-images:    image_uid, url, …: where the rankings' pictures lie

A tie (½, ½) selects both. Uids repeat and mean the same picture, so bytes are looked up by uid
wherever a row lacks them. PickaPic has no profiles: the only feature is the user's id.
Knows PickaPic's columns and the table's rows; nothing about tensors or models.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from contract.feature_schema import Feature, FeatureSchema
from training.data.table import Candidate, Group, TableError

_SIDES = (("image_0_uid", "jpg_0"), ("image_1_uid", "jpg_1"))
_PAIRS = ("has_label", "caption", "label_0", "label_1", "ranking_id", "user_id", *(c for side in _SIDES for c in side))
_RANKINGS = ("ranking_id", "user_id", "prompt", "best_image_uid", *(f"image_{n}_uid" for n in (1, 2, 3, 4)))
_IMAGES = ("image_uid", "url")
_BATCH = 256


@dataclass
class Skipped:
    """Rows that give no group, by reason."""

    rows: Counter[str] = field(default_factory=Counter)


def user_schema(files: list[Path]) -> FeatureSchema:
    """PickaPic's only feature: the user's id."""
    users: set[str] = set()
    for path in files:
        for batch in _open(path, ("user_id",)).iter_batches(columns=["user_id"]):
            users |= {str(user) for user in batch.column(0).to_pylist() if user is not None}
    return FeatureSchema((Feature("user_id", "categorical", tuple(sorted(users))),))


def pairs(files: list[Path], skipped: Skipped) -> Iterator[Group]:
    """One group of two for every labelled row of PickaPic.

    Raises:
        TableError: a file lacks one of the columns.
    """
    elsewhere = _bytes_that_some_row_lacks(files)
    for path in files:
        for number, row in _rows(path, _PAIRS):
            group = _pair(row, f"{path.stem}-{number}", elsewhere, skipped)
            if group is not None:
                yield group


def rankings(files: list[Path], images: list[Path], skipped: Skipped) -> Iterator[Group]:
    """One group for every ranking of PickaPic-rankings, its pictures by the URLs of PickaPic-images."""
    urls = {str(row["image_uid"]): row["url"] for path in images for _, row in _rows(path, _IMAGES)}
    for path in files:
        for number, row in _rows(path, _RANKINGS):
            group = _ranking(row, f"{path.stem}-{number}", urls, skipped)
            if group is not None:
                yield group


def _bytes_that_some_row_lacks(files: list[Path]) -> dict[str, bytes]:
    """Pictures by uid; only these are held in memory, the data set itself may be far larger."""
    lacking = {uid for uid, content in _all_parts(files) if not content}
    return {uid: content for uid, content in _all_parts(files) if content and uid in lacking} if lacking else {}


def _all_parts(files: list[Path]) -> Iterator[tuple[str, bytes | None]]:
    return (part for path in files for _, row in _rows(path, _PAIRS) for part in _parts(row))


def _parts(row: Mapping[str, Any]) -> list[tuple[str, bytes | None]]:
    return [(str(row[uid]), row[jpg]) for uid, jpg in _SIDES]


def _pair(row: Mapping[str, Any], name: str, elsewhere: Mapping[str, bytes], skipped: Skipped) -> Group | None:
    labels = [row["label_0"], row["label_1"]]
    parts = [(uid, content or elsewhere.get(uid)) for uid, content in _parts(row)]
    if not row["has_label"] or None in labels:
        skipped.rows["no label"] += 1
    elif sum(labels) != 1 or not set(labels) <= {0, 0.5, 1}:
        skipped.rows["labels that do not add up to one"] += 1
    elif parts[0][0] == parts[1][0]:
        skipped.rows["the same picture twice"] += 1
    elif not all(content for _, content in parts):
        skipped.rows["missing bytes"] += 1
    else:
        candidates = [Candidate(uid, label > 0, part) for (uid, part), label in zip(parts, labels, strict=True)]
        return _group(row, name, row["caption"], candidates)
    return None


def _ranking(row: Mapping[str, Any], name: str, urls: Mapping[str, str], skipped: Skipped) -> Group | None:
    shown = list(dict.fromkeys(str(row[f"image_{n}_uid"]) for n in (1, 2, 3, 4) if row[f"image_{n}_uid"]))
    best = row["best_image_uid"]
    if len(shown) < 2:
        skipped.rows["fewer than two pictures"] += 1
    elif best not in (*shown, "none", None):
        skipped.rows["a best picture that was not shown"] += 1
    elif not all(uid in urls for uid in shown):
        skipped.rows["a picture without a URL"] += 1
    else:
        return _group(row, name, row["prompt"], [Candidate(uid, uid == best, uri=urls[uid]) for uid in shown])
    return None


def _group(row: Mapping[str, Any], name: str, prompt: str, candidates: list[Candidate]) -> Group:
    user = str(row["user_id"])
    return Group(
        group_id=f"{row['ranking_id']}-{name}", user_id=user, prompt=prompt or "", candidates=tuple(candidates),
        features={"user_id": user}, origin="pickapic",
    )  # fmt: skip


def _open(path: Path, columns: tuple[str, ...]) -> pq.ParquetFile:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise TableError(f"{path} is not Parquet: {error}") from error
    missing = [name for name in columns if name not in file.schema_arrow.names]
    if missing:
        raise TableError(f"{path} is not PickaPic: no column {', '.join(missing)}")
    return file


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, Any]]]:
    with _open(path, columns) as file:
        batches = file.iter_batches(batch_size=_BATCH, columns=list(columns))
        yield from enumerate(row for batch in batches for row in batch.to_pylist())
