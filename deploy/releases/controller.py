"""The steps of a release into service: load, promote, roll back, unload, prune.

One controller works on a repository at a time. A step that is refused leaves all models and the pointer as they were.
Several Tritons that serve from one repository take each step together. Knows the order of things; files are
contract.repository's, Triton is server's.
"""

import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract import tensors
from contract.errors import InputError
from contract.release import MANIFEST, Manifest, read_manifest, read_release
from contract.repository import CONTROL, EXPORT, Repository
from deploy.releases import model_config
from deploy.releases.errors import ReleaseError, ServerError
from deploy.releases.server import Server

QUIET_S = 5.0  # a version without an inference for so long is no round's any more
UNLOADED_WITHIN_S = 60.0
POLL_S = 0.5

Manifests = Mapping[int, Manifest]


@dataclass(frozen=True)
class Controller:
    """What is done with the releases of one repository, on all Tritons that serve from it.

    `configure` gives the configuration of a model that is not loaded; a loaded one keeps the one that it runs with.
    `say` gets each line of progress. Every method raises ReleaseError or InputError when it refuses.
    """

    repository: Repository
    servers: Sequence[Server]
    say: Callable[[str], None]
    configure: Callable[[Path, str], Any] = model_config.of_repository
    drain_s: float = 60.0  # longest wait for rounds on a release that is to be unloaded

    def load(self, number: int) -> None:
        """Loads a release beside the live one and the one before, and has every model of it compute once."""
        with self.repository.lock(CONTROL, f"load {number}"):
            wanted = {number: self._checked(number)} | self._serving()
            beside = " and ".join(str(n) for n in wanted if n != number)
            self.say(f"release {number} is whole; loading it" + (f" beside {beside}" if beside else ""))
            self._load(wanted)
            self._tidy(wanted)  # what was loaded earlier and not promoted
        self.say(f"release {number} is loaded and every model of it has computed; it serves after: promote {number}")

    def restore(self) -> None:
        """Loads what the pointer says into Tritons that have just started; without a pointer, the newest release.

        The first release of a repository is promoted here, since nothing served before it.
        """
        with self.repository.lock(CONTROL, "restore"):
            live = self.repository.live()
            number = self._newest() if live is None else live
            manifest, serving = self._checked(number), self._serving()
            try:
                self._load({number: manifest} | serving)
            except ServerError as error:
                if len(serving) < 2:
                    raise
                self.say(f"warning: without the fallback: {error}")
                self._load({number: manifest})
            if live is None:
                self.repository.point(number, None)
                self.say(f"release {number} is live: the first of this repository")

    def promote(self, number: int) -> None:
        """Puts a loaded release in service; the one before stays loaded as the fallback, others are unloaded."""
        with self.repository.lock(CONTROL, f"promote {number}"):
            live = self.repository.live()
            if number == live:
                self.say(f"release {number} is live already")
                return
            self._prove(number, self._checked(number))
            fallback = live if live is not None and self._answers(live) else self.repository.fallback()
            self.repository.point(number, None if fallback == number else fallback)
            self.say(f"release {number} is live" + (f"; the fallback is {fallback}" if fallback else ""))
            self._tidy({number, fallback})

    def rollback(self) -> None:
        """Puts the release before in service again, which is loaded; the one that served becomes the fallback.

        Of its files only those are read that services read: a way back must not take long.
        """
        with self.repository.lock(CONTROL, "rollback"):
            live, fallback = self.repository.live(), self.repository.fallback()
            if fallback is None:
                raise ReleaseError("there is no release to go back to: load and promote one")
            self._prove(fallback, read_release(self.repository.release_dir(fallback)).manifest)
            self.repository.point(fallback, live)
        self.say(f"release {fallback} is live again; {live} stays loaded")

    def unload(self, number: int) -> None:
        """Drops a release that does not serve, say one that shall not be promoted."""
        with self.repository.lock(CONTROL, f"unload {number}"):
            if number in (self.repository.live(), self.repository.fallback()):
                raise ReleaseError(f"release {number} is live or the fallback: it stays loaded")
            self._unload_all_but(self._held() - {number})

    def prune(self, keep: int, *, stopped: bool = False) -> list[int]:
        """Deletes releases but the newest `keep`, the live one, the fallback and all that a Triton still holds.

        What interrupted exports left goes, too. `stopped`: no Triton serves from this repository now.

        Returns:
            The numbers of the releases deleted.
        """
        with self.repository.lock(CONTROL, "prune"), self.repository.lock(EXPORT, "prune"):
            held = set() if stopped else self._held()
            numbers = self.repository.numbers()
            needed = {self.repository.live(), self.repository.fallback(), *held, *numbers[-max(keep, 1) :]}
            pruned = [number for number in numbers if number not in needed]
            for number in pruned:
                (self.repository.release_dir(number) / MANIFEST).unlink()  # first, so that no half release is one
            for folder in self._leftovers(held):
                shutil.rmtree(folder)
            return pruned

    def _leftovers(self, held: set[int]) -> Iterator[Path]:
        """Folders of numbers that are no release and that nobody holds."""
        known = {*self.repository.numbers(), *held}
        for path in self.repository.root.glob("*/*"):
            number = path.name.removeprefix(".staging-")
            if path.is_dir() and number.isdigit() and int(number) not in known:
                yield path

    def _checked(self, number: int) -> Manifest:
        """A release whose files are as they were exported and fit this repository's contract."""
        manifest = self.repository.check(number)
        for model in manifest.models:
            config = model_config.of_repository(self.repository.root, model)
            model_config.check_shapes(config, tensors.shapes(manifest.sizes).get(model, {}))
        return manifest

    def _serving(self) -> dict[int, Manifest]:
        """The live release and the fallback, as far as they are whole; a damaged one cannot be loaded again."""
        found = {}
        for number in (self.repository.live(), self.repository.fallback()):
            if number is not None:
                try:
                    found[number] = self._checked(number)
                except InputError as error:
                    if any(number in held for server in self.servers for held in server.states().values()):
                        raise  # it serves from memory: loading its model again would end that
                    self.say(f"warning: release {number} is damaged and stays out: {error}")
        return found

    def _newest(self) -> int:
        if not (numbers := self.repository.numbers()):
            raise ReleaseError(f"there is no release in {self.repository.root} yet: export one")
        return numbers[-1]

    def _load(self, wanted: Manifests) -> None:
        """Loads these releases beside what is loaded already; puts everything back when one refuses."""
        before: list[tuple[Server, str, Any, set[int]]] = []
        try:
            for server, model in self._places(wanted):
                loaded = server.versions(model)
                versions = loaded | {number for number, manifest in wanted.items() if model in manifest.models}
                config = server.config(model) or self.configure(self.repository.root, model)
                if loaded != versions:
                    self.say(f"loading {model} {_list(versions)}")
                    before.append((server, model, config, loaded))
                    server.load(model, config, versions)
                for version in sorted(versions):
                    server.prove(model, version, config)
        except (ServerError, KeyboardInterrupt) as error:
            left = self._put_back(before)
            raise ServerError(f"{str(error) or 'interrupted'}; {left}") from error

    def _put_back(self, before: Sequence[tuple[Server, str, Any, set[int]]]) -> str:
        """Undoes loads, the last one first; says how things stand."""
        problems = []
        for server, model, config, versions in reversed(before):
            try:
                if server.versions(model) != versions:
                    server.load(model, config, versions)
            except ServerError as error:
                problems.append(str(error))
        return "; ".join(problems) or "all models are as they were"

    def _places(self, manifests: Manifests) -> Iterator[tuple[Server, str]]:
        models = sorted({model for manifest in manifests.values() for model in manifest.models})
        return ((server, model) for model in models for server in self.servers)

    def _prove(self, number: int, manifest: Manifest) -> None:
        for server, model in self._places({number: manifest}):
            config = server.config(model) or self.configure(self.repository.root, model)
            try:
                server.prove(model, number, config)
            except ServerError as error:
                raise ReleaseError(f"{error}; load release {number} first: load {number}") from error

    def _answers(self, number: int) -> bool:
        try:
            self._prove(number, read_manifest(self.repository.release_dir(number)))
        except (ReleaseError, InputError):
            return False
        return True

    def _held(self) -> set[int]:
        """All versions that a Triton still holds, after those that it is about to drop are gone."""
        end = time.monotonic() + UNLOADED_WITHIN_S
        while True:
            states = [s for server in self.servers for held in server.states().values() for s in held.items()]
            if not any(state == "UNLOADING" for _, state in states) or time.monotonic() > end:
                return {number for number, _ in states}
            time.sleep(POLL_S)

    def _tidy(self, kept: Iterable[int | None]) -> None:
        """Unloads what nothing needs after a step that is done; what cannot be unloaded stays until the next one."""
        try:
            self._unload_all_but(kept)
        except ServerError as error:
            self.say(f"warning: releases that nothing needs stay loaded: {error}")

    def _unload_all_but(self, kept: Iterable[int | None]) -> None:
        """Drops all other versions, once nobody computes with them any more."""
        dropped = self._held() - set(kept)
        if not dropped:
            return
        self._await_quiet(dropped)
        for server in self.servers:
            for model in server.states():
                versions = server.versions(model)
                if versions & dropped:
                    server.load(model, server.config(model), versions - dropped)
        self.say(f"unloaded: {_list(dropped)}")

    def _await_quiet(self, numbers: set[int]) -> None:
        """Rounds that began on these releases are let end, for up to `drain_s`."""
        end = time.monotonic() + self.drain_s
        while time.monotonic() < end and (before := self._inferences(numbers)):
            time.sleep(min(QUIET_S, max(0.0, end - time.monotonic())))
            if self._inferences(numbers) == before:
                return

    def _inferences(self, numbers: set[int]) -> int:
        counted = (server.inferences().items() for server in self.servers)
        return sum(count for each in counted for (_, version), count in each if version in numbers)


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
