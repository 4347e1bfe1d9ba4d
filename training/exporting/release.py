"""Releases on disk: their files, the next number, and which is in service.

A release never changes once it is in service: a model whose sources did not change is
hard-linked into the next. `releases/current` is written last, so an interrupted export leaves
the old release in service. Knows files and hashes, nothing of models.
"""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from contract.errors import ManifestError
from contract.release import (
    MANIFEST,
    Manifest,
    Sizes,
    current_file,
    current_number,
    model_dir,
    read_manifest,
    release_dir,
)


@dataclass(frozen=True)
class Repository:
    """Triton's model repository with its releases/ folder."""

    root: Path

    @property
    def current_file(self) -> Path:
        return current_file(self.root)

    def release_dir(self, number: int) -> Path:
        return release_dir(self.root, number)

    def model_dir(self, model: str, number: int) -> Path:
        return model_dir(self.root, model, number)

    def staging_dir(self, number: int) -> Path:
        return self.root / "releases" / f".staging-{number}"

    def current(self) -> Manifest | None:
        """The manifest of the release in service; None if there is none or it is incomplete."""
        try:
            manifest = read_manifest(self.release_dir(current_number(self.root)))
        except ManifestError:
            return None
        return manifest if self._is_whole(manifest) else None

    def next_number(self) -> int:
        known = (self.root / "releases").glob("*/manifest.json")
        return 1 + max((int(path.parent.name) for path in known), default=0)

    def _is_whole(self, manifest: Manifest) -> bool:
        return all(
            (self.model_dir(model, manifest.release) / name).is_file()
            for model, entry in manifest.models.items()
            for name in entry.files
        )

    def link(self, model: str, old: int, into: Path) -> None:
        """Links the same files, which takes no more space."""
        into.mkdir(parents=True, exist_ok=True)
        for path in self.model_dir(model, old).iterdir():
            try:
                os.link(path, into / path.name)
            except OSError:  # another file system, or one without links
                shutil.copy2(path, into / path.name)

    def publish(self, manifest: Manifest, texts: Mapping[str, str]) -> None:
        """Move the staged models into place, write the release's files, and put it in service."""
        number = manifest.release
        staging = self.staging_dir(number)
        for model in manifest.models:
            target = self.model_dir(model, number)
            shutil.rmtree(target, ignore_errors=True)  # left by an interrupted export
            os.replace(staging / model, target)
        directory = self.release_dir(number)
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir(parents=True)
        for name, text in texts.items():
            (directory / name).write_text(text, encoding="utf-8")
        _write_atomically(directory / MANIFEST, json.dumps(manifest.to_json(), indent=1) + "\n")
        _write_atomically(self.current_file, f"{number}\n")
        shutil.rmtree(staging)

    def retire_all_but(self, sizes: Sizes) -> list[int]:
        """Removes releases of other tensor sizes and releases that cannot be read; returns their numbers.

        A model's versions share one config.pbtxt: once that names other sizes, Triton refuses their files and so the
        whole model. A release of another feature schema or vocabulary has the same sizes.
        """
        retired = []
        for path in (self.root / "releases").glob(f"*/{MANIFEST}"):
            if not self._has(path.parent, sizes):
                number = int(path.parent.name)
                for folder in self.root.glob(f"*/{number}"):
                    shutil.rmtree(folder)
                retired.append(number)
        return sorted(retired)

    @staticmethod
    def _has(directory: Path, sizes: Sizes) -> bool:
        try:
            return read_manifest(directory).sizes == sizes
        except ManifestError:
            return False


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_under(roots: Iterable[Path]) -> list[Path]:
    """All files of these files and directories, caches left out, in a fixed order."""
    found: list[Path] = []
    for root in roots:
        inside = sorted(root.rglob("*")) if root.is_dir() else [root]
        found += [path for path in inside if path.is_file() and "__pycache__" not in path.parts]
    return found


def fingerprint(roots: Iterable[Path], extra: str = "") -> str:
    """One hash of everything in these files and directories."""
    digest = hashlib.sha256(extra.encode())
    for path in files_under(roots):
        digest.update(f"{path.name} {sha256(path)}\n".encode())
    return digest.hexdigest()


def source_commit() -> str:
    """The commit that this code is at, or "unknown" outside a checkout."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()


def _write_atomically(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.new")
    partial.write_text(text)
    os.replace(partial, path)
