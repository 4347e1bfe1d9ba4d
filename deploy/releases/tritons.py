"""All Tritons that serve from one repository, which take each step together: load beside, prove, unload.

Knows the order in which models are loaded and put back; not which release is to serve, nor why.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.release import Manifest
from deploy.releases.errors import ReleaseError, ServerError
from deploy.releases.server import Server

QUIET_S = 5.0  # a version without an inference for so long is no round's any more
UNLOADED_WITHIN_S = 60.0
POLL_S = 0.5

Manifests = Mapping[int, Manifest]


@dataclass(frozen=True)
class Tritons:
    """Every method raises ServerError when one of them refuses or does not answer."""

    root: Path  # of the repository
    servers: Sequence[Server]
    say: Callable[[str], None]
    configure: Callable[[Path, str], Any]  # of a model that is not loaded
    drain_s: float  # longest wait for rounds on a release that is to be unloaded

    def load(self, wanted: Manifests) -> None:
        """Loads these releases beside what is loaded already; puts everything back when one refuses."""
        before: list[tuple[Server, str, Any, set[int]]] = []
        try:
            for server, model in self._places(wanted):
                loaded = server.versions(model)
                versions = loaded | {number for number, manifest in wanted.items() if model in manifest.models}
                config = server.config(model) or self.configure(self.root, model)
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

    def prove(self, manifest: Manifest) -> None:
        """Has every model of a release compute once."""
        number = manifest.release
        for server, model in self._places({number: manifest}):
            config = server.config(model) or self.configure(self.root, model)
            try:
                server.prove(model, number, config)
            except ServerError as error:
                raise ReleaseError(f"{error}; load release {number} first: load {number}") from error

    def prove_within(self, manifest: Manifest, limit_s: float) -> None:
        """The same, all models at a time; one that is ready and too busy to answer so soon is taken at its word."""
        number = manifest.release

        def prove(server: Server) -> list[str]:
            return server.prove_within(sorted(manifest.models), number, limit_s)

        with ThreadPoolExecutor(max(len(self.servers), 1)) as pool:
            for server, slow in zip(self.servers, pool.map(prove, self.servers), strict=True):
                if slow:
                    self.say(f"warning: {server.address} has release {number} loaded, but is slow: {', '.join(slow)}")

    def held(self) -> set[int]:
        """All versions that a Triton still holds, after those that it is about to drop are gone."""
        end = time.monotonic() + UNLOADED_WITHIN_S
        while True:
            states = [s for server in self.servers for held in server.states().values() for s in held.items()]
            if not any(state == "UNLOADING" for _, state in states) or time.monotonic() > end:
                return {number for number, _ in states}
            time.sleep(POLL_S)

    def unload_all_but(self, kept: Iterable[int]) -> None:
        """Drops all other versions, once nobody computes with them any more."""
        dropped = self.held() - set(kept)
        if not dropped:
            return
        self._await_quiet(dropped)
        for server in self.servers:
            for model in server.states():
                versions = server.versions(model)
                if versions & dropped:
                    server.load(model, server.config(model), versions - dropped)
        self.say(f"unloaded: {_list(dropped)}")

    def tidy(self, kept: Iterable[int]) -> None:
        """Drops what nothing needs. The step is done by now: what cannot be unloaded is only told."""
        try:
            self.unload_all_but(kept)
        except ServerError as error:
            self.say(f"warning: releases that nothing needs stay loaded: {error}")

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
