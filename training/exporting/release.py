"""Staging a release: its number, files shared with older releases, files written so that the manifest comes last.

A release exists once its manifest does, so an interrupted export leaves none. A model whose sources did not change is
hard-linked. Nothing here moves a pointer or deletes a release; deploy.releases does. Knows files, no models.
"""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from contract.errors import InputError, ManifestError
from contract.release import MANIFEST, Manifest, ModelFiles, Sizes, read_manifest
from contract.repository import Repository, sha256, sync, write_durably
from training.exporting.errors import ContractError


def staging_dir(repository: Repository, number: int) -> Path:
    """Where an export writes before its release exists."""
    return repository.root / "releases" / f".staging-{number}"


def next_number(repository: Repository) -> int:
    """Never one that was used: services remember releases by number."""
    return 1 + max([*repository.numbers(), repository.live() or 0, repository.fallback() or 0])


def newest(repository: Repository) -> Manifest | None:
    """The manifest of the newest release; None if there is none or its files are not as they were exported."""
    try:
        return repository.check(max(repository.numbers(), default=0))
    except InputError:
        return None


def exported_before(repository: Repository, prints: Mapping[str, str]) -> dict[str, tuple[int, ModelFiles]]:
    """Models that a release already holds, by their fingerprints: its number, and its manifest's entry.

    The newest one that holds them whole.
    """
    found: dict[str, tuple[int, ModelFiles]] = {}
    for manifest in _readable(repository):
        for model, entry in manifest.models.items():
            if model not in found and prints.get(model) == entry.fingerprint:
                files = {name: repository.model_dir(model, manifest.release) / name for name in entry.files}
                if all(path.is_file() and sha256(path) == entry.files[name] for name, path in files.items()):
                    found[model] = manifest.release, entry
    return found


def check_beside(repository: Repository, sizes: Sizes) -> None:
    """Refuses a release that could not be loaded beside the live one, since they share every config.pbtxt.

    Raises:
        ContractError: the live release was made for other tensor sizes.
    """
    live = repository.live()
    try:
        before = None if live is None else read_manifest(repository.release_dir(live)).sizes
    except ManifestError:
        return  # nobody can serve it
    if before is not None and before != sizes:
        now = vars(sizes)
        changed = ", ".join(f"{name} {old}, now {now[name]}" for name, old in vars(before).items() if old != now[name])
        raise ContractError(
            f"release {live}, which is live in {repository.root}, was made for other tensor sizes ({changed}), and all "
            "releases of a repository share its config.pbtxt files: restore those and write a repository of its own "
            "(training.exporting.write_contracts --out DIR, then export with --repository DIR), which another "
            f"deployment serves; or, if nothing serves from here any more, delete {repository.root}/releases/current"
        )


def clear(repository: Repository) -> None:
    """Removes what an export that was refused, interrupted or killed left: anything of a number without a manifest."""
    number = next_number(repository)
    for folder in [*repository.model_folders(number), repository.release_dir(number)]:
        shutil.rmtree(folder, ignore_errors=True)
    for folder in staging_dir(repository, number).parent.glob(".staging-*"):
        shutil.rmtree(folder, ignore_errors=True)


def link(repository: Repository, model: str, old: int, into: Path) -> None:
    """Links a release's files of a model, which takes no more space."""
    into.mkdir(parents=True, exist_ok=True)
    for path in repository.model_dir(model, old).iterdir():
        try:
            os.link(path, into / path.name)
        except OSError:  # another file system, or one without links
            shutil.copy2(path, into / path.name)


def stage(repository: Repository, manifest: Manifest, texts: Mapping[str, str]) -> None:
    """Moves the models from the staging folder into place, writes the texts, and the manifest last."""
    number = manifest.release
    staging = staging_dir(repository, number)
    for model in manifest.models:
        target = repository.model_dir(model, number)
        shutil.rmtree(target, ignore_errors=True)  # left by an interrupted export
        for path in files_under([staging / model]):
            sync(path)
        os.replace(staging / model, target)
        sync(target.parent)
    directory = repository.release_dir(number)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for name, text in texts.items():
        write_durably(directory / name, text)
    whole = replace(manifest, texts={name: sha256(directory / name) for name in texts})
    write_durably(directory / MANIFEST, json.dumps(whole.to_json(), indent=1) + "\n")
    sync(directory.parent)
    shutil.rmtree(staging, ignore_errors=True)


def _readable(repository: Repository) -> Iterator[Manifest]:
    """Manifests that can be read, newest first."""
    for number in reversed(repository.numbers()):
        try:
            yield read_manifest(repository.release_dir(number))
        except ManifestError:
            continue


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
