"""Releases in an object store, from which a cluster's machines fetch them: immutable, named by their content.

    URL/objects/SHA256          a file of any release; the same file of two releases lies here once
    URL/releases/R.json         release R: its files and their SHA-256; written last, and never again
    URL/plans/TARGET/KEY.json   what was found for a model on a GPU: its TensorRT plan, or why there is none
    URL/states/N.json           what served after the N-th change, the history and the gates' verdicts

Everything is created and nothing is overwritten, so that of two writers one is refused, and a reader finds a whole file
or none. Any URL that fsspec knows. Knows files and hashes; neither Triton nor which release is to serve.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
from fsspec.implementations.local import LocalFileSystem

from contract.release import MANIFEST
from contract.repository import Repository, sha256, sync
from deploy.releases.errors import ReleaseError

CONFIG = "config.pbtxt"  # of each model; the same for all releases of a repository
KEPT_STATES = 100  # older ones are deleted: each holds the whole history
_LOCAL_OBJECTS = ".objects"  # beside the releases of a repository that was fetched; its files are hard links


class TakenError(ReleaseError):
    """Another writer was faster, or there is something else of that name."""


class StoreError(ReleaseError):
    """The store does not answer, or holds something else than it should."""


@dataclass(frozen=True)
class Numbered:
    """What served after a change."""

    number: int
    content: dict[str, Any]


class Store:
    """One URL. Every method raises StoreError when it does not answer."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        with self._asking("opened"):
            self._files, self._root = fsspec.core.url_to_fs(self.url, use_listings_cache=False)

    def numbers(self) -> list[int]:
        """All releases, oldest first."""
        return self._numbered("releases")

    def push(self, repository: Repository, number: int) -> None:
        """Stores a release with the contracts of its models; one that is there already, whole, is left as it is.

        Raises:
            InputError: its files are not as they were exported.
            TakenError: another release has this number.
        """
        manifest = repository.check(number)
        wanted = [path for path in repository.release_dir(number).iterdir() if path.is_file()]
        for model, entry in manifest.models.items():
            wanted += [repository.model_dir(model, number) / name for name in entry.files]
            wanted.append(repository.root / model / CONFIG)
        files = {str(path.relative_to(repository.root)): sha256(path) for path in wanted}
        for name, digest in files.items():
            self._add(digest, repository.root / name)
        entry_path = f"{self._root}/releases/{number}.json"
        try:
            self._create(entry_path, json.dumps({"files": files}, indent=1).encode())
        except TakenError:
            if self._entry(number) != files:
                raise TakenError(f"{self.url} has another release {number} already") from None

    def _add(self, digest: str, file: Path) -> None:
        """Stores a file under its hash, in parts: it may have gigabytes. What a killed push left is put right."""
        path = f"{self._root}/objects/{digest}"
        with self._asking(f"for object {digest[:12]}…"):
            if self._files.exists(path) and self._files.size(path) == file.stat().st_size:
                return
            self._make_folder(path)
            if isinstance(self._files, LocalFileSystem):  # an object store has a file whole or not at all
                partial = f"{path}.{uuid4().hex}"
                self._files.put_file(str(file), partial)
                self._files.mv(partial, path)
            else:
                self._files.put_file(str(file), path)
        if sha256(file) != digest:
            with self._asking("to remove an object"):
                self._files.rm_file(path)
            raise ReleaseError(f"{file} has changed while it was read")

    def fetch(self, repository: Repository, number: int, *, models: bool = True) -> None:
        """Puts a release into a repository, its manifest last; what is there already is not fetched again.

        Args:
            models: whether its models and their contracts are fetched, too.

        Raises:
            StoreError: there is no such release, or a file of it is not what its name says.
        """
        files = self._entry(number)
        manifest = f"releases/{number}/{MANIFEST}"
        if manifest not in files:
            raise StoreError(f"{self.url} holds a release {number} without a manifest")
        wanted = [name for name in files if models or name.startswith("releases/")]
        for name in sorted(wanted, key=lambda name: (name == manifest, name)):
            self._place(files[name], repository.root / name, repository)

    def _place(self, digest: str, path: Path, repository: Repository) -> None:
        kept = repository.root / "releases" / _LOCAL_OBJECTS / digest
        if not kept.exists():
            self._download(digest, kept)
        if path.exists() and path.samefile(kept):
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{uuid4().hex}")
        partial.hardlink_to(kept)
        partial.replace(path)
        sync(path.parent)

    def _download(self, digest: str, into: Path) -> None:
        into.parent.mkdir(parents=True, exist_ok=True)
        partial = into.with_name(f".{digest}.{uuid4().hex}")
        try:
            with self._asking(f"for object {digest[:12]}…"):
                self._files.get_file(f"{self._root}/objects/{digest}", str(partial))
            if (found := sha256(partial)) != digest:
                raise StoreError(f"object {digest[:12]}… of {self.url} is damaged: its SHA-256 is {found[:12]}…")
            sync(partial)
            partial.replace(into)
        finally:
            partial.unlink(missing_ok=True)

    def _entry(self, number: int) -> Mapping[str, str]:
        with self._asking(f"for release {number}"):
            content = self._files.cat_file(f"{self._root}/releases/{number}.json")
        try:
            files = json.loads(content)["files"]
            if all(_is_safe(name) for name in files):
                return {str(name): str(digest) for name, digest in files.items()}
        except (ValueError, TypeError, KeyError):
            pass
        raise StoreError(f"what {self.url} says of release {number} cannot be read")

    def plans(self, target: str) -> set[str]:
        """The keys of all that was looked for on that target."""
        return {name.removesuffix(".json") for name in self._names(f"plans/{target}") if name.endswith(".json")}

    def push_plan(self, target: str, key: str, found: dict[str, Any], plan: bytes | None) -> None:
        """Stores what was found; what is there already stays. `found` has no field `plan` of its own."""
        digest = None if plan is None else hashlib.sha256(plan).hexdigest()
        with suppress(TakenError):
            if plan is not None:
                self._create(f"{self._root}/objects/{digest}", plan)
        with suppress(TakenError):  # another job was faster
            self._create(
                f"{self._root}/plans/{target}/{key}.json", json.dumps(found | {"plan": digest}, indent=1).encode()
            )

    def fetch_plan(self, target: str, key: str, path: Path, repository: Repository) -> bool:
        """Puts a plan there; says whether there is one.

        Raises:
            StoreError: nothing was looked for, or the plan is damaged.
        """
        with self._asking(f"for a plan of {target}"):
            content = self._files.cat_file(f"{self._root}/plans/{target}/{key}.json")
        try:
            digest = json.loads(content)["plan"]
        except (ValueError, TypeError, KeyError) as error:
            raise StoreError(f"what {self.url} says of plan {key[:12]}… for {target} cannot be read") from error
        if digest is not None:
            self._place(str(digest), path, repository)
        return digest is not None

    def state(self, after: int = 0) -> Numbered | None:
        """The newest one, if its number is greater than `after`."""
        numbers = self._numbered("states")
        if not numbers or numbers[-1] <= after:
            return None
        with self._asking(f"for state {numbers[-1]}"):
            content = self._files.cat_file(f"{self._root}/states/{numbers[-1]}.json")
        try:
            return Numbered(numbers[-1], dict(json.loads(content)))
        except (ValueError, TypeError) as error:
            raise StoreError(f"state {numbers[-1]} of {self.url} cannot be read") from error

    def publish(self, state: Numbered) -> None:
        """Makes it the newest one; deletes very old ones.

        Raises:
            TakenError: there is one of that number already: another controller is at work.
        """
        self._create(f"{self._root}/states/{state.number}.json", json.dumps(state.content).encode())
        for number in self._numbered("states")[:-KEPT_STATES]:
            with self._asking("to delete an old state"):
                self._files.rm_file(f"{self._root}/states/{number}.json")

    def _numbered(self, folder: str) -> list[int]:
        stems = (name.removesuffix(".json") for name in self._names(folder))
        return sorted(int(stem) for stem in stems if stem.isdigit())

    def _names(self, folder: str) -> list[str]:
        with self._asking(f"for its {folder}"):
            try:
                names = self._files.ls(f"{self._root}/{folder}", detail=False, refresh=True)
            except FileNotFoundError:
                return []
        return [str(name).rpartition("/")[2] for name in names]

    def _create(self, path: str, content: bytes) -> None:
        with self._asking(f"to take {path.removeprefix(self._root)}"):
            try:
                self._make_folder(path)
                self._files.pipe_file(path, content, mode="create")
            except FileExistsError as error:
                raise TakenError(f"{self.url}{path.removeprefix(self._root)} is there already") from error

    def _make_folder(self, path: str) -> None:
        """Of a file. S3 has none, and asking for one asks for the bucket, which a part may have no right to."""
        if "s3" not in self._files.protocol:
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        try:
            yield
        except ReleaseError:
            raise
        except FileNotFoundError as error:
            raise StoreError(f"{self.url}, asked {what}, does not have it") from error
        except Exception as error:  # each back end raises its own kind
            said = next(iter(str(error).splitlines()), "") or type(error).__name__
            raise StoreError(f"{self.url}, asked {what}, does not answer: {said[:200]}") from error


def forget(repository: Repository, numbers: set[int]) -> None:
    """Removes releases that were fetched, each manifest first, and the objects that no other one has."""
    for number in sorted(numbers):
        (repository.release_dir(number) / MANIFEST).unlink(missing_ok=True)
        for folder in [*repository.model_folders(number), repository.release_dir(number)]:
            shutil.rmtree(folder, ignore_errors=True)
    for kept in (repository.root / "releases" / _LOCAL_OBJECTS).glob("*"):
        if kept.stat().st_nlink == 1 and not kept.name.startswith("."):
            kept.unlink(missing_ok=True)


def _is_safe(name: str) -> bool:
    """Whether a file of a release stays in its repository."""
    parts = Path(name).parts
    return bool(parts) and not Path(name).is_absolute() and ".." not in parts
