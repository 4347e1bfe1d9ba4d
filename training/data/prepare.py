"""From a table of groups to tensors: pictures decoded, prompts tokenised, profiles encoded.

Each preparation is kept: the same table, tokenizer and size give the same folder name. A group that
cannot be used is left out and counted in report.json by its reason, never silently.
Knows the table and the tensors; nothing about models but the size of their pictures.
"""

import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import numpy as np
from numpy.lib.format import open_memmap
from PIL import Image
from tqdm import tqdm
from transformers import CLIPTokenizer

from contract.feature_schema import FeatureSchema
from contract.vocabulary import phrases_of
from training.data.groups import GroupTensors
from training.data.table import Candidate, Group, TableError, count_rows, files, read_schema, read_table
from training.models.tokens import TOKENS, encode

WORDINGS = 4  # wordings of each prompt: as written, and with its phrases shuffled
_FORMAT = 2  # changes when the same table would give other tensors


@dataclass
class Report:
    """How many of a table's groups are used, and why the others are not."""

    groups: int = 0  # kept
    candidates: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  # by reason
    without_selection: int = 0  # kept, but useless for measuring or learning a ranking
    missing: Counter[str] = field(default_factory=Counter)  # by feature: groups whose profile does not have it
    unknown: Counter[str] = field(default_factory=Counter)  # by feature: groups with a value that the schema lacks

    def lines(self) -> list[str]:
        """The report as lines of text."""
        lines = [f"{self.groups} groups of {self.candidates} candidates; {self.without_selection} without a selection"]
        lines += [f"left out: {count} groups, {reason}" for reason, count in sorted(self.left_out.items())]
        lines += [f"no {name} in {count} groups" for name, count in sorted(self.missing.items())]
        lines += [
            f"{name}: something unknown in {count} groups, left out" for name, count in sorted(self.unknown.items())
        ]
        return lines


class _Unusable(Exception):
    """Why a group is left out."""


def prepare(table: Path, cache: Path, tokenizer: CLIPTokenizer, size_px: int, seed: int = 0) -> GroupTensors:
    """The table's usable groups as tensors, computed unless `cache` holds them; prints its report.

    Args:
        table: directory of the Parquet format (training.data.table).
        cache: where prepared folders lie, one per table, tokenizer and size.
        tokenizer: of the model that reads the prompts.
        size_px: side of the square pictures kept: the shorter side is resized to it, the middle cut out.
        seed: of the shuffled wordings.

    Raises:
        TableError: not a table, or no group in it can be used.
    """
    folder = cache / _fingerprint(table, tokenizer, size_px, seed)
    if not (folder / "report.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        schema = read_schema(table)
        groups, report = _read_all(table, schema, size_px, folder / "images.npy")
        ids = _tokenise([group.prompt for group in groups], tokenizer, seed)
        _stack(groups, ids, schema).save(folder)
        (folder / "report.json").write_text(json.dumps(vars(report), indent=1) + "\n")  # last: all is there
    report = Report(**json.loads((folder / "report.json").read_text()))
    print("\n".join(f"{table}: {line}" for line in report.lines()))
    return GroupTensors.load(folder)


def decode(content: bytes, size_px: int) -> np.ndarray:
    """uint8 (size_px, size_px, 3): the shorter side resized (bicubic), the middle cut out.

    Raises:
        OSError: not a picture, or a broken one.
    """
    with Image.open(io.BytesIO(content)) as opened:
        picture = opened.convert("RGB")
    ratio = size_px / min(picture.size)
    if ratio != 1:
        size = (max(size_px, round(picture.width * ratio)), max(size_px, round(picture.height * ratio)))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    left, top = (picture.width - size_px) // 2, (picture.height - size_px) // 2
    return np.asarray(picture.crop((left, top, left + size_px, top + size_px)))


def shuffled(prompt: str, rng: np.random.Generator) -> str:
    """The prompt with its phrases in another order: the paper's augmentation."""
    phrases = phrases_of(prompt)
    return ",".join(phrases[i] for i in rng.permutation(len(phrases)))


# ---- reading ---------------------------------------------------------------------------------


def _read_all(table: Path, schema: FeatureSchema, size_px: int, images_path: Path) -> tuple[list[Group], Report]:
    """The usable groups without their bytes; their pictures go straight to `images_path`, (N, K, H, W, 3)."""
    report, usable, seen = Report(), list[Group](), set[str]()
    k = max((len(group.candidates) for group in read_table(table, images=False)), default=0)
    images = open_memmap(images_path, mode="w+", dtype=np.uint8, shape=(count_rows(table), k, size_px, size_px, 3))
    for group in tqdm(read_table(table), total=count_rows(table), desc=f"reading {table.name}"):
        try:
            if group.group_id in seen:
                raise _Unusable("duplicate group_id")
            seen.add(group.group_id)
            pictures = _pictures(group, size_px)
        except _Unusable as reason:
            report.left_out[str(reason)] += 1
            continue
        report.missing.update(f.name for f in schema.features if group.features.get(f.name) is None)
        report.unknown.update(schema.encode(group.features).unknown)
        report.groups += 1
        report.candidates += len(pictures)
        report.without_selection += not any(c.selected for c in group.candidates)
        images[len(usable), : len(pictures)] = pictures
        usable.append(_without_bytes(group))
    if not usable:
        raise TableError(f"{table}: no group can be used: {dict(report.left_out) or 'the table is empty'}")
    widest = max(len(group.candidates) for group in usable)
    _keep_first(images, len(usable), widest, images_path)
    return usable, report


def _keep_first(images: np.memmap, n: int, k: int, path: Path) -> None:
    """Cuts the unused rows and places off the file."""
    images.flush()
    if images.shape[:2] == (n, k):
        return
    shorter = open_memmap(path.with_suffix(".new"), mode="w+", dtype=images.dtype, shape=(n, k, *images.shape[2:]))
    for at in range(0, n, 256):
        shorter[at : at + 256] = images[at : min(at + 256, n), :k]
    shorter.flush()
    os.replace(path.with_suffix(".new"), path)


def _pictures(group: Group, size_px: int) -> np.ndarray:
    if len(group.candidates) < 2:
        raise _Unusable("fewer than two candidates")
    if not group.prompt.strip():
        raise _Unusable("empty prompt")
    try:
        return np.stack([decode(_bytes(candidate), size_px) for candidate in group.candidates])
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise _Unusable("a picture that cannot be decoded") from error


def _bytes(candidate: Candidate) -> bytes:
    if candidate.image is not None:
        return candidate.image
    if candidate.uri is None:
        raise _Unusable("a candidate with neither image nor uri")
    try:
        with fsspec.open(candidate.uri, "rb") as opened:
            content: bytes = opened.read()
            return content
    except (OSError, ValueError) as error:
        raise _Unusable("a picture that its uri does not give") from error


def _without_bytes(group: Group) -> Group:
    candidates = tuple(Candidate(c.image_id, c.selected) for c in group.candidates)
    return Group(group.group_id, group.user_id, group.prompt, candidates, group.features, group.origin)


# ---- tensors ---------------------------------------------------------------------------------


def _tokenise(prompts: list[str], tokenizer: CLIPTokenizer, seed: int) -> np.ndarray:
    """int64 (N, WORDINGS, 77); the first wording is the prompt as written."""
    rng = np.random.default_rng((seed, 29))
    worded = [wording for p in prompts for wording in (p, *(shuffled(p, rng) for _ in range(WORDINGS - 1)))]
    return encode(tokenizer, worded).reshape(len(prompts), WORDINGS, TOKENS)


def _stack(groups: list[Group], ids: np.ndarray, schema: FeatureSchema) -> GroupTensors:
    """Everything but the pictures, which lie on disk already."""
    n, k = len(groups), max(len(group.candidates) for group in groups)
    selected, present = np.zeros((n, k), bool), np.zeros((n, k), bool)
    features = np.zeros((n, schema.n_slots), np.int64)
    for row, group in enumerate(groups):
        shown = len(group.candidates)
        present[row, :shown] = True
        selected[row, :shown] = [c.selected for c in group.candidates]
        features[row] = schema.encode(group.features).slots
    return GroupTensors(
        schema, features, selected, ids, present=None if present.all() else present,
        group_ids=np.array([g.group_id for g in groups]), user_ids=np.array([g.user_id for g in groups]),
    )  # fmt: skip


def _fingerprint(table: Path, tokenizer: CLIPTokenizer, size_px: int, seed: int) -> str:
    digest = hashlib.sha256(
        json.dumps([_FORMAT, size_px, seed, WORDINGS, sorted(tokenizer.get_vocab().items())]).encode()
    )
    digest.update((table / "feature_schema.json").read_bytes())
    for path in files(table):
        digest.update(path.name.encode())
        _update(digest.update, path)
    return f"{table.name}-{size_px}px-{digest.hexdigest()[:16]}"


def _update(update: Callable[[bytes], None], path: Path) -> None:
    with path.open("rb") as opened:
        while block := opened.read(1 << 20):
            update(block)
