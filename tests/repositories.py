"""Model repositories for tests: some releases of another repository, which take no space again."""

import json
import shutil
from collections.abc import Iterable
from pathlib import Path

from contract.release import MANIFEST, current_file
from contract.repository import Repository, write_durably


def copy_of(repository: Repository, root: Path, numbers: Iterable[int], live: int | None = None) -> Repository:
    """These releases with files hard-linked, the contracts copied, and the pointer set if `live` is given."""
    copy = Repository(root)
    for number in numbers:
        link(repository.release_dir(number), copy.release_dir(number))
        for folder in repository.model_folders(number):
            link(folder, copy.model_dir(folder.parent.name, number))
    for config in repository.root.glob("*/config.pbtxt"):
        (root / config.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy2(config, root / config.parent.name)
    if live is not None:
        write_durably(current_file(root), f"{live}\n")
    return copy


def stage(source: Repository, number: int, repository: Repository, as_number: int) -> None:
    """The same release under another number, as an export would have written it."""
    for folder in source.model_folders(number):
        link(folder, repository.model_dir(folder.parent.name, as_number))
    link(source.release_dir(number), repository.release_dir(as_number))
    said = json.loads((source.release_dir(number) / MANIFEST).read_text())
    replace_file(repository.release_dir(as_number) / MANIFEST, json.dumps(said | {"release": as_number}).encode())


def link(folder: Path, into: Path) -> None:
    """The folder again, by hard links; never write into one of its files."""
    shutil.copytree(folder, into, copy_function=_link)


def replace_file(path: Path, content: bytes) -> None:
    """Changes a file that may be linked: only here."""
    path.unlink()
    path.write_bytes(content)


def _link(source: str, target: str) -> None:
    try:
        Path(target).hardlink_to(source)
    except OSError:  # another file system
        shutil.copy2(source, target)
