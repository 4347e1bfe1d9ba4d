"""All Tritons that serve from one repository, which take each step together: load beside, prove, unload.

Knows the order in which models are loaded and put back; not which release is to serve, nor why.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contract.release import Manifest
from deploy.releases.errors import NotLoadedError, ReleaseError, ServerError
from deploy.releases.server import Server
from deploy.releases.tensorrt import ONNX_RUNTIME, Setting, ways

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
    tensorrt: Setting = ONNX_RUNTIME  # how models run on a GPU

    def load(self, wanted: Manifests) -> None:
        """Loads these releases beside what is loaded already, and has every model of them compute once.

        Puts everything back when one refuses. What else is loaded is not asked to compute. A model that does not run
        with TensorRT runs with ONNX Runtime alone.
        """
        before: list[tuple[Server, str, Any, set[int]]] = []
        try:
            for server, model in self._places(wanted):
                loaded = server.versions(model)
                new = {number for number, manifest in wanted.items() if model in manifest.models}
                versions = loaded | new
                config = server.config(model) or self.configure(self.root, model)
                if loaded == versions:
                    _prove(server, model, config, new)
                    continue
                self.say(f"loading {model} {_list(versions)}")
                before.append((server, model, config, loaded))
                self._load(server, model, config, versions, new)
        except KeyboardInterrupt:
            self.say(f"interrupted; {self._put_back(before)}")
            raise
        except ServerError as error:
            raise ServerError(f"{error}; {self._put_back(before)}") from error

    def _load(self, server: Server, model: str, config: Any, versions: set[int], new: set[int]) -> None:
        """Loads versions the best way there is; `new` ones compute once."""
        *better, last = ways(self.tensorrt, self.root, config, versions)
        for way in better:
            try:
                server.load(model, way, versions)
                return _prove(server, model, way, versions)  # all of them: the others ran another way
            except ServerError as error:
                self.say(f"warning: {model} runs without TensorRT: {error}")
        server.load(model, last, versions)
        _prove(server, model, last, new)

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

    def lacking(self, wanted: Manifests) -> dict[int, Manifest]:
        """Those of these releases that a Triton has not loaded whole."""
        states = [server.states() for server in self.servers]
        return {
            number: manifest
            for number, manifest in wanted.items()
            if any(each.get(model, {}).get(number) != "READY" for each in states for model in manifest.models)
        }

    def prove(self, manifest: Manifest) -> None:
        """Has every model of a release compute once."""
        with _hint(manifest.release):
            for server, model in self._places({manifest.release: manifest}):
                config = server.config(model) or self.configure(self.root, model)
                server.prove(model, manifest.release, config)

    def prove_within(self, manifest: Manifest, limit_s: float) -> list[str]:
        """The same, all models at a time, for about as long as that; returns who did not answer so soon."""

        def prove(server: Server) -> list[str]:
            return server.prove_within(sorted(manifest.models), manifest.release, limit_s)

        with _hint(manifest.release), ThreadPoolExecutor(max(len(self.servers), 1)) as pool:
            found = zip(self.servers, pool.map(prove, self.servers), strict=True)
            return [f"{', '.join(slow)} of {server.address}" for server, slow in found if slow]

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


def _prove(server: Server, model: str, config: Any, versions: Iterable[int]) -> None:
    for version in sorted(versions):
        server.prove(model, version, config)


@contextmanager
def _hint(number: int) -> Iterator[None]:
    """Says what to do about a release that is not loaded."""
    try:
        yield
    except NotLoadedError as error:
        raise ReleaseError(f"{error}; load release {number} first: load {number}") from error


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(numbers)))
