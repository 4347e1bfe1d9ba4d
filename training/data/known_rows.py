"""Rows of an array that are computed once for each key, and kept in a folder as they come.

    00000.npz, 00001.npz, …    each with `keys` (n,) and `rows` (n, …), written whole and never changed

What has been added stays after a kill, and a later run computes only what is new. Knows keys and arrays; nothing about
what a row is.
"""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from training.common.errors import WeightsError, reading


class KnownRows:
    """The rows in one folder, which one process writes at a time."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._places: dict[str, tuple[Path, int]] = {}  # key → file, row in it
        for path in sorted(folder.glob("*.npz")):
            self._remember(path, _read(path, "keys"))

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def add(self, keys: Sequence[str], rows: np.ndarray) -> None:
        """Keeps rows (n, …) under new keys."""
        last = max((int(path.stem) for path in self.folder.glob("*.npz")), default=-1)
        self._write(self.folder / f"{last + 1:05d}.npz", np.array(keys), rows)

    def fill(self, out: np.ndarray, keys: Sequence[str]) -> None:
        """Puts the rows of these keys into `out` (len(keys), …), file by file."""
        wanted: dict[Path, list[tuple[int, int]]] = {}
        for at, key in enumerate(keys):
            path, row = self._places[key]
            wanted.setdefault(path, []).append((at, row))
        for path, pairs in wanted.items():
            places, rows = np.array(pairs).T
            out[places] = _read(path, "rows")[rows]

    def keep_only(self, keys: Collection[str]) -> None:
        """Forgets every other row, on the disk too."""
        files: dict[Path, list[str]] = {}
        for key, (path, _) in self._places.items():
            files.setdefault(path, []).append(key)
        for path, held in files.items():
            kept = [key for key in held if key in keys]
            if len(kept) == len(held):
                continue
            rows = _read(path, "rows")[[self._places[key][1] for key in kept]]
            for key in held:
                del self._places[key]
            if kept:
                self._write(path, np.array(kept), rows)
            else:
                path.unlink()

    def _write(self, path: Path, keys: np.ndarray, rows: np.ndarray) -> None:
        unfinished = path.with_suffix(".new")
        with unfinished.open("wb") as file:
            np.savez(file, keys=keys, rows=rows)
        os.replace(unfinished, path)
        self._remember(path, keys)

    def _remember(self, path: Path, keys: np.ndarray) -> None:
        for row, key in enumerate(keys.tolist()):
            self._places[key] = path, row


def _read(path: Path, name: str) -> np.ndarray:
    with reading(path, WeightsError), np.load(path) as file:
        array: np.ndarray = file[name]
        return array
