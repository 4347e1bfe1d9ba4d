"""The groups of one table with what their candidates show, each picture read and tagged once in the table's life.

What a picture shows, and its pixels where a training reads them, are kept beside each other in build/prepared under the
table's name, by the picture's bytes or by its URI. A later retraining reads the pictures of new groups alone, and
forgets those that its table no longer has. Knows tables, pictures and tags; nothing about trainings.
"""

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from contract.picture_files import PictureRefused
from contract.prompts import phrases_of
from training.data.known_rows import KnownRows
from training.data.pictures import Pictures, Unreachable, stamp
from training.data.prepare import decode
from training.data.table import Candidate, Group, read_table
from training.wishes.tagging import Tagger

AT_ONCE = 1_000  # pictures in a file of the cache
UNREACHABLE = "a picture that its uri does not give"


@dataclass
class Source:
    """Usable groups in the order of their table, without pictures' bytes."""

    groups: list[Group] = field(default_factory=list)
    keys: list[list[str]] = field(default_factory=list)  # of each candidate's picture
    left_out: Counter[str] = field(default_factory=Counter)  # groups, by reason


class PictureCache:
    """What is known of a table's pictures."""

    def __init__(self, folder: Path, tagger: Tagger, size_px: int, *, pixels: bool) -> None:
        """`size_px` is the side of the CLIP's pictures; `pixels`: keep them, too."""
        self.tagger, self.size_px, self.reader = tagger, size_px, Pictures()
        self.tags = KnownRows(folder / f"tags-{size_px}px-{tagger.how}")
        self.pixels = KnownRows(folder / f"pixels-{size_px}px") if pixels else None
        self._waiting: dict[str, np.ndarray] = {}

    def read(self, table: Path, wanted: Collection[str], label: str) -> Source:
        """The groups with these ids; a picture that is not known is read, and its tags are kept.

        A group that cannot be used is left out and counted by its reason.
        """
        source = Source()
        with tqdm(total=len(wanted), desc=f"reading {label}", mininterval=2) as bar:
            for group in read_table(table):
                if group.group_id not in wanted:
                    continue
                bar.update()
                if reason := self._learn(group):
                    source.left_out[reason] += 1
                    continue
                source.groups.append(without_bytes(group))
                source.keys.append([key_of(candidate) for candidate in group.candidates])
                if len(self._waiting) >= AT_ONCE:
                    self._keep()
        self._keep()
        return source

    def forget_others(self, source: Source) -> None:
        """Forgets the pictures that this source does not have."""
        keys = {key for of_group in source.keys for key in of_group}
        for known in self._parts():
            known.keep_only(keys)

    def fill_tags(self, source: Source, out: np.ndarray, rows: np.ndarray) -> None:
        """Puts the tags of a source's groups into these rows of `out`, int64 (N, K, kinds)."""
        _fill(self.tags, source, out, rows)

    def fill_pixels(self, source: Source, out: np.ndarray, rows: np.ndarray) -> None:
        """Puts the pictures of a source's groups into these rows of `out`, uint8 (N, K, H, W, 3)."""
        assert self.pixels is not None
        _fill(self.pixels, source, out, rows)

    def _parts(self) -> Iterator[KnownRows]:
        yield self.tags
        if self.pixels is not None:
            yield self.pixels

    def _learn(self, group: Group) -> str | None:
        """Reads the pictures of a group that are not known; why it cannot be used, or None."""
        if len(group.candidates) < 2:
            return "fewer than two candidates"
        if not phrases_of(group.prompt):
            return "an empty prompt"
        for candidate in group.candidates:
            key = key_of(candidate)
            if key in self._waiting or all(key in known for known in self._parts()):
                continue
            try:
                content = candidate.image if candidate.image is not None else self.reader.read(str(candidate.uri))
                self._waiting[key] = decode(content, self.size_px)
            except Unreachable:
                return UNREACHABLE
            except PictureRefused:
                return "a picture that cannot be decoded"
        return None

    def _keep(self) -> None:
        """Tags what waits and writes it down."""
        for known in self._parts():
            new = [key for key in self._waiting if key not in known]
            if new:
                pictures = np.stack([self._waiting[key] for key in new])
                known.add(new, self.tagger(pictures) if known is self.tags else pictures)
        self._waiting.clear()


def key_of(candidate: Candidate) -> str:
    """What names a picture: its bytes, or its URI with whatever changes when its file does."""
    if candidate.image is not None:
        return hashlib.sha256(candidate.image).hexdigest()[:32]
    return hashlib.sha256(f"{candidate.uri} {stamp(str(candidate.uri))}".encode()).hexdigest()[:32]


def without_bytes(group: Group) -> Group:
    """The same group, light enough to keep many of."""
    return replace(group, candidates=tuple(replace(candidate, image=None) for candidate in group.candidates))


def _fill(known: KnownRows, source: Source, out: np.ndarray, rows: np.ndarray) -> None:
    """In the order of the source, which is about that of the files."""
    flat = out.reshape(-1, *out.shape[2:])  # a view: `out` is contiguous
    places = [row * out.shape[1] + at for row, keys in zip(rows, source.keys, strict=True) for at in range(len(keys))]
    keys = [key for of_group in source.keys for key in of_group]
    for at in range(0, len(keys), AT_ONCE):
        part = slice(at, at + AT_ONCE)
        found = np.empty((len(keys[part]), *flat.shape[1:]), flat.dtype)
        known.fill(found, keys[part])
        flat[places[part]] = found
