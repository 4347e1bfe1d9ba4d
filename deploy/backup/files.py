"""Copies of files between any place that fsspec knows and a folder, resumable: whole or not there."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
from tqdm import tqdm

from contract.repository import sync
from deploy.backup.places import BackupError
from deploy.backup.record import digest

CHUNK = 2**20
_PARTIAL = ".copied"


def listed(place: str, wanted: Callable[[str], bool] = lambda path: True) -> dict[str, int]:
    """Files below a place by path, with their sizes; without hidden ones, which are locks and scratch."""
    files, root = _at(place)
    if not files.exists(root):
        return {}
    found = {path.removeprefix(f"{root}/"): int(of["size"]) for path, of in files.find(root, detail=True).items()}
    return {
        path: size
        for path, size in sorted(found.items())
        if not any(part.startswith(".") for part in PurePosixPath(path).parts) and wanted(path)
    }


def fetch(place: str, paths: Mapping[str, int], folder: Path, *, reuse: Callable[[str], bool]) -> dict[str, Any]:
    """Copies files into a folder; returns each one's size and SHA-256.

    Args:
        paths: with their sizes, as `listed` gives them.
        reuse: whether a file of this name never changes, so that one of its size that is there already stays.

    Raises:
        FileNotFoundError: a file has gone meanwhile.
    """
    files, root = _at(place)
    done: dict[str, Any] = {}
    with tqdm(total=sum(paths.values()), desc=folder.name, unit="B", unit_scale=True, disable=None) as bar:
        for path, size in paths.items():
            target = folder / path
            if not (reuse(path) and target.is_file() and target.stat().st_size == size):
                with files.open(f"{root}/{path}", "rb") as source:
                    _write(source, target)
            done[path] = digest(target)
            bar.update(size)
    return done


def give(folder: Path, files: Mapping[str, Mapping[str, Any]], place: str) -> None:
    """Copies files of a back-up to a place that has none, or some of the same from a restore that was interrupted.

    Raises:
        BackupError: something else is there.
    """
    there = listed(place)
    for path, size in there.items():
        if path not in files or files[path]["bytes"] != size:
            raise BackupError(f"{place} is not empty: it holds {path}; restore into an empty place")
    at, root = _at(place)
    with tqdm(
        total=sum(of["bytes"] for of in files.values()), desc=root, unit="B", unit_scale=True, disable=None
    ) as bar:
        for path, of in files.items():
            if path not in there:
                with (folder / path).open("rb") as source:
                    if "://" in place:
                        with at.open(f"{root}/{path}", "wb") as target:
                            while chunk := source.read(CHUNK):
                                target.write(chunk)
                    else:
                        _write(source, Path(root) / path)
            bar.update(of["bytes"])


def _at(place: str) -> tuple[Any, str]:
    files, root = fsspec.core.url_to_fs(place, use_listings_cache=False)
    return files, root.rstrip("/")


def _write(source: Any, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}{_PARTIAL}")
    with partial.open("wb") as file:
        while chunk := source.read(CHUNK):
            file.write(chunk)
    sync(partial)
    os.replace(partial, target)
