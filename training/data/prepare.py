"""From a table of groups to tensors: pictures decoded, prompts tokenised, profiles encoded.

Each preparation is kept: the same table, pictures' files, tokenizer and size give the same folder name. A picture that
could not be reached is tried again each time. A group that cannot be used is left out and counted in report.json by
its reason, never silently.
Knows the table and the tensors; nothing about models but the size of their pictures.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from tqdm import tqdm
from transformers import CLIPTokenizer

from contract.feature_schema import FeatureSchema
from contract.picture_files import PictureRefused, picture_file
from contract.pictures import square
from contract.prompts import phrases_of
from training.common.reports import write_report
from training.common.runs import held
from training.data.groups import GroupTensors
from training.data.pictures import Pictures, Unreachable, place_of, stamp
from training.data.table import (
    CHECK,
    Candidate,
    Group,
    TableError,
    count_rows,
    hash_table,
    name_of,
    read_schema,
    read_table,
)
from training.models.tokens import TOKENS, encode, reads_whole

WORDINGS = 4  # wordings of each prompt: as written, and with its phrases shuffled
_FORMAT = 4  # changes when the same table would give other tensors


@dataclass
class Report:
    """How many of a table's groups are used, and why the others are not."""

    groups: int = 0  # kept
    candidates: int = 0
    left_out: Counter[str] = field(default_factory=Counter)  # by reason
    without_selection: int = 0  # kept, but useless for measuring or learning a ranking
    missing: Counter[str] = field(default_factory=Counter)  # by feature: groups whose profile does not have it
    unknown: Counter[str] = field(default_factory=Counter)  # by feature: groups with a value that the schema lacks
    cut: int = 0  # prompts longer than the model reads
    unreachable: dict[str, str] = field(default_factory=dict)  # URIs of pictures that could not be read, and why

    def lines(self) -> list[str]:
        """The report as lines of text."""
        lines = [f"{self.groups} groups of {self.candidates} candidates; {self.without_selection} without a selection"]
        lines += [f"left out: {count} groups, {reason}" for reason, count in sorted(self.left_out.items())]
        lines += [f"no {name} in {count} groups" for name, count in sorted(self.missing.items())]
        lines += [
            f"{name}: something unknown in {count} groups, left out" for name, count in sorted(self.unknown.items())
        ]
        lines += [f"{self.cut} prompts are longer than the model reads: phrases are left out"] if self.cut else []
        places = Counter((place_of(uri), why.split(":")[0]) for uri, why in self.unreachable.items())
        lines += [f"{place}: {count} pictures could not be read ({why})" for (place, why), count in places.items()]
        return lines


class _Unusable(Exception):
    """Why a group is left out."""


def prepare(
    table: Path, cache: Path, tokenizer: CLIPTokenizer, size_px: int, seed: int = 0, *, quiet: bool = False
) -> GroupTensors:
    """The table's usable groups as tensors, computed unless `cache` holds them; prints its report.

    Args:
        table: of either form (training.data.table).
        cache: where prepared folders lie, one per table, tokenizer and size.
        tokenizer: of the model that reads the prompts.
        size_px: side of the square pictures kept, see `decode`.
        seed: of the shuffled wordings.
        quiet: print no report.

    Raises:
        TableError: not a table, or no group in it can be used.
    """
    folder = cache / _fingerprint(table, tokenizer, size_px, seed)
    if not _is_ready(folder):
        with held(cache, f"{folder.name}.lock", wait=True):
            if not _is_ready(folder):  # another process may have made it meanwhile
                _make(table, folder, tokenizer, size_px, seed)
    if not quiet:
        report = Report(**json.loads((folder / "report.json").read_text()))
        print("\n".join(f"{table}: {line}" for line in report.lines()))
    return GroupTensors.load(folder)


def _is_ready(folder: Path) -> bool:
    """Whether a preparation is whole, and none of the pictures that it could not reach can be reached now."""
    if not (folder / "report.json").exists():
        return False
    pictures, report = Pictures(), json.loads((folder / "report.json").read_text())
    return not any(pictures.reaches(uri) for uri in report["unreachable"])


def _make(table: Path, folder: Path, tokenizer: CLIPTokenizer, size_px: int, seed: int) -> None:
    """Prepares beside the folder, and puts the whole in its place."""
    unfinished = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    schema = read_schema(table)
    groups, report = _read_all(table, schema, size_px, unfinished / "images.npy")
    prompts = [group.prompt for group in groups]
    report.cut = sum(not reads_whole(tokenizer, prompt) for prompt in prompts)
    stack(groups, tokenise(prompts, tokenizer, seed), schema).save(unfinished)
    write_report(unfinished / "report.json", vars(report))
    shutil.rmtree(folder, ignore_errors=True)  # a training that reads it keeps its files open
    unfinished.rename(folder)


def decode(content: bytes, size_px: int) -> np.ndarray:
    """uint8 (size_px, size_px, 3): the middle square, as the services see a picture.

    Raises:
        PictureRefused: neither PNG nor JPEG, a broken one, or one with more pixels than Pillow decodes.
    """
    return square(picture_file(content), size_px)


def shuffled(prompt: str, rng: np.random.Generator) -> str:
    """The prompt with its phrases in another order: the paper's augmentation."""
    phrases = phrases_of(prompt)
    return ",".join(phrases[i] for i in rng.permutation(len(phrases)))


# ---- reading ---------------------------------------------------------------------------------


def _read_all(table: Path, schema: FeatureSchema, size_px: int, images_path: Path) -> tuple[list[Group], Report]:
    """The usable groups without their bytes; their pictures go straight to `images_path`, (N, K, H, W, 3)."""
    report, usable, seen, reader = Report(), list[Group](), set[str](), Pictures()
    k = max((len(group.candidates) for group in read_table(table, images=False)), default=0)
    images = open_memmap(images_path, mode="w+", dtype=np.uint8, shape=(count_rows(table), k, size_px, size_px, 3))
    for group in tqdm(read_table(table), total=count_rows(table), desc=f"reading {table.name}"):
        try:
            if group.group_id in seen:
                raise _Unusable("duplicate group_id")
            seen.add(group.group_id)
            pictures = _pictures(group, size_px, reader, report)
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
        raise TableError(f"{table}: no group can be used: {_why_none(report)}; {CHECK} {table} says more")
    widest = max(len(group.candidates) for group in usable)
    _keep_first(images, len(usable), widest, images_path)
    return usable, report


def _why_none(report: Report) -> str:
    """Why a table has no usable group, with the first picture that could not be reached."""
    reasons = [f"{count} left out, {reason}" for reason, count in sorted(report.left_out.items())]
    reasons += [f"{uri}: {why}" for uri, why in [*report.unreachable.items()][:1]]
    return "; ".join(reasons) or "the table is empty"


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


def _pictures(group: Group, size_px: int, reader: Pictures, report: Report) -> np.ndarray:
    if len(group.candidates) < 2:
        raise _Unusable("fewer than two candidates")
    if not phrases_of(group.prompt):
        raise _Unusable("empty prompt")
    try:
        return np.stack([decode(_bytes(candidate, reader, report), size_px) for candidate in group.candidates])
    except PictureRefused as error:
        raise _Unusable("a picture that cannot be decoded") from error


def _bytes(candidate: Candidate, reader: Pictures, report: Report) -> bytes:
    if candidate.image is not None:
        return candidate.image
    if candidate.uri is None:
        raise _Unusable("a candidate with neither image nor uri")
    try:
        return reader.read(candidate.uri)
    except Unreachable as error:
        report.unreachable[candidate.uri] = str(error)
        raise _Unusable("a picture that its uri does not give") from error


def _without_bytes(group: Group) -> Group:
    candidates = tuple(Candidate(c.image_id, c.selected) for c in group.candidates)
    return Group(group.group_id, group.user_id, group.prompt, candidates, group.features, group.origin)


# ---- tensors ---------------------------------------------------------------------------------


def tokenise(prompts: list[str], tokenizer: CLIPTokenizer, seed: int) -> np.ndarray:
    """int64 (N, WORDINGS, 77); the first wording is the prompt as written."""
    rng = np.random.default_rng((seed, 29))
    worded = [wording for p in prompts for wording in (p, *(shuffled(p, rng) for _ in range(WORDINGS - 1)))]
    return encode(tokenizer, worded).reshape(len(prompts), WORDINGS, TOKENS)


def stack(groups: list[Group], ids: np.ndarray, schema: FeatureSchema) -> GroupTensors:
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
        prompts=np.array([g.prompt for g in groups]),
    )  # fmt: skip


def _fingerprint(table: Path, tokenizer: CLIPTokenizer, size_px: int, seed: int) -> str:
    digest = hashlib.sha256(
        json.dumps([_FORMAT, size_px, seed, WORDINGS, tokenizer.backend_tokenizer.to_str()]).encode()
    )
    hash_table(table, digest.update)
    for group in read_table(table, images=False):
        stamps = [stamp(candidate.uri) for candidate in group.candidates if candidate.uri is not None]
        digest.update("\n".join(stamps).encode())
    return f"{name_of(table)}-{size_px}px-{digest.hexdigest()[:16]}"
