"""Revives model processes of the local Triton; in a cluster a liveness probe restarts the container instead.

A model whose process died is loaded anew beside what is left of it, with the versions that it has, or without one that
Triton refuses. It knows Triton's model control and which releases serve; not why a process died.
`python -m deploy.local.keeper` runs it in the foreground.

It also ends processes that Triton left behind, which hold memory and would be taken for living ones.
"""

import argparse
import logging
import os
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from contract.errors import InputError
from contract.repository import CONTROL, Repository
from deploy.local import model_processes
from deploy.local.authority import Authority
from deploy.local.layout import Layout
from deploy.local.model_processes import Place
from deploy.releases import state
from deploy.releases.errors import LateError, ServerError
from deploy.releases.server import Server

POLL_S = 1.0
LONGEST_PAUSE_S = 60.0  # between two revivals of a model that dies again and again
SETTLED_S = 300.0  # a model that lives this long is trusted again
LEFT_AFTER_S = 10.0  # what is left of a model whose process died does not end by itself; calls in it may until then
GENERATION = "revived"  # a parameter that makes a configuration another one, so that Triton loads it again

_log = logging.getLogger(__name__)


def reviving(layout: Layout) -> str:
    """What the repository's lock says while a model is revived."""
    return f"revive in {layout.name}:"


class Keeper:
    """Watches one Triton."""

    def __init__(self, layout: Layout, server: Server) -> None:
        self._layout = layout
        self._repository = Repository(layout.model_repository)
        self._server = server
        self._lacked: Mapping[Place, int] = {}
        self._left: dict[int, float] = {}  # process → since when nothing calls it
        self._pauses: dict[str, tuple[float, float]] = {}  # model → when it was revived, pause after that

    def look(self) -> list[str]:
        """Revives each model that lacked a process at the last look, too: one that is being loaded may lack it once.

        Returns:
            The models revived.
        """
        try:
            lacks = model_processes.dead(self._server, self._layout.shared_memory)
            left = model_processes.left_over(self._server, self._layout.shared_memory)
        except ServerError:  # it does not run yet, or any more
            lacks, left = {}, set()
        self._end_left_over(left)
        models = {model for model, version in lacks if (model, version) in self._lacked}
        self._lacked = lacks
        return [model for model in sorted(models) if self._is_due(model) and self._revive(model)]

    def _end_left_over(self, left: set[int]) -> None:
        """Ends what nothing has called for as long as one inference may take."""
        if self._repository.held_by(CONTROL):  # a load: what is left is not known yet
            left = set()
        now = time.monotonic()
        self._left = {pid: self._left.get(pid, now) for pid in left}
        for pid, since in self._left.items():
            if now - since > self._layout.patience_s:
                _log.warning("Triton left process %d behind; it is ended", pid)
                _kill(pid)

    def _is_due(self, model: str) -> bool:
        revived, pause_s = self._pauses.get(model, (0.0, 0.0))
        return time.monotonic() - revived >= pause_s

    def _revive(self, model: str) -> bool:
        now = time.monotonic()
        revived, pause_s = self._pauses.get(model, (now, 0.0))
        settled = now - revived > SETTLED_S
        self._pauses[model] = now, POLL_S if settled else min(LONGEST_PAUSE_S, max(POLL_S, 2 * pause_s))
        before = self._processes(model)
        try:
            with self._repository.lock(CONTROL, f"{reviving(self._layout)} {model}"):
                versions, config = self._server.versions(model), self._server.config(model)
                if config is None:
                    return False
                versions = self._load(model, config, versions)
                for version in versions:
                    self._server.prove(model, version, config)
        except (InputError, ServerError) as error:
            _log.warning("%s is not revived yet: %s", model, error)
            return False
        _log.warning("%s serves again after %.1f s", model, time.monotonic() - now)
        self._clear_away(model, before)
        return True

    def _load(self, model: str, config: Any, versions: set[int]) -> set[int]:
        """Loads these versions anew, or fewer of them if Triton refuses; returns which."""
        _log.warning("a process of %s died; loading versions %s again", model, sorted(versions))
        config.parameters[GENERATION].string_value = str(time.time_ns())
        try:
            self._server.load(model, config, versions)
        except LateError:
            raise
        except ServerError as error:
            if not (fewer := self._fewer(versions)):
                raise
            _log.warning("%s: %s", model, error)
            return self._load(model, config, fewer)
        return versions

    def _fewer(self, versions: set[int]) -> set[int]:
        """These without what nothing needs, else the live one alone; none where that leaves nothing out."""
        serving, _ = state.as_it_is(self._repository)
        choices = (versions & serving.needed, versions & {serving.live})
        return next((kept for kept in choices if kept and kept != versions), set())

    def _clear_away(self, model: str, before: set[int]) -> None:
        """Ends processes that nothing calls any more; a count would take them for living ones."""
        end = time.monotonic() + LEFT_AFTER_S
        while (left := before & self._processes(model)) and time.monotonic() < end:
            time.sleep(POLL_S)
        for pid in left:
            _kill(pid)

    def _processes(self, model: str) -> set[int]:
        found = model_processes.processes(self._layout.shared_memory)
        return {pid for (name, _), pids in found.items() if name == model for pid in pids}


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m deploy.local.keeper", description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--port-offset", type=int, required=True)
    parser.add_argument("--model-repository", type=Path, required=True)
    parser.add_argument("--patience", type=float, default=Layout.patience_s, help="seconds for loading a model")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    layout = Layout(options.name, options.port_offset, options.model_repository, options.patience)
    certificates = Authority(layout.home).folder("releases")
    keeper = Keeper(layout, Server(layout.address("triton_grpc"), layout.patience_s, certificates))
    while True:
        keeper.look()
        time.sleep(POLL_S)


if __name__ == "__main__":
    main()
