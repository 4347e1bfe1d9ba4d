"""Starting, stopping and looking at a whole cluster.

Knows the order of a stop and the timeouts of a start; parts.py lists the parts.
"""

import shutil
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from contract.errors import InputError
from contract.repository import Repository
from deploy.local.layout import ROOT, Layout
from deploy.local.parts import ON_DEMAND, PARTS, Part, part
from deploy.local.process import Process

START_LIMIT_S = 300.0
PORT_LIMIT_S = 10.0  # a killed process gives its ports back when its last thread and child are gone, not at once
POLL_S = 0.15
LOG_LINES_SHOWN = 25
WITHOUT_METRICS = ("identity_provider", "payment_provider")  # what stands for others' services here


class ClusterError(Exception):
    """The cluster did not start; the message names the remedy or the log's last lines."""


@dataclass(frozen=True)
class Cluster:
    """One local cluster. `say` receives each line of progress."""

    layout: Layout
    say: Callable[[str], None] = field(default=lambda line: None)

    def up(self, names: Iterable[str] = ()) -> None:
        """Returns when every part (or the named ones) is ready; a running part is left alone."""
        parts = [part(n) for n in names] or list(PARTS)
        begin = time.monotonic()
        self.start(each.name for each in parts)
        self._wait_until_ready(parts, begin)

    def start(self, names: Iterable[str]) -> None:
        """Start processes and wait for nothing: parts find each other in any order."""
        self._check_release()
        for name in names:
            self._start(part(name))

    def down(self) -> None:
        """Stops services first, so that their calls in flight can still use the dependencies."""
        for each in reversed((*PARTS, *ON_DEMAND)):
            self.stop(each.name)

    def stop(self, name: str) -> None:
        each, process = part(name), self.process(name)
        if process.pid is None:
            return
        begin = time.monotonic()
        how = "stopped" if process.stop(each.drain_s) else f"did not stop in {each.drain_s:.0f} s and was killed"
        self.say(f"{time.monotonic() - begin:6.1f} s  {name:<15} {how}")

    def kill(self, name: str) -> None:
        self.process(name).kill()

    def restart(self, name: str) -> None:
        self.stop(name)
        self.up([name])

    def process(self, name: str) -> Process:
        return Process(name, self.layout.pids / f"{name}.pid", self.layout.logs / f"{name}.log")

    def states(self) -> dict[str, str]:
        running = [p for p in ON_DEMAND if self.process(p.name).pid is not None]
        return {p.name: self._state(p) for p in (*PARTS, *running)}

    def table(self) -> str:
        """Part, address, what is behind it, state."""
        states = self.states()
        lines = [f"{'part':<15} {'address':<18} {'metrics':<34} state"]
        for each in map(part, states):
            address = self.layout.address(each.ports[0]) if each.ports else "-"
            lines.append(f"{each.name:<15} {address:<18} {self._metrics(each):<34} {states[each.name]}")
        return "\n".join(lines)

    def _metrics(self, each: Part) -> str:
        if each.name == "kafka" or each.name in WITHOUT_METRICS or not each.ports:
            return "-"
        port = self.layout.port("triton_metrics") if each.name == "triton" else self.layout.metrics_port(each.name)
        return f"http://127.0.0.1:{port}/metrics"

    def _state(self, each: Part) -> str:
        if self.process(each.name).pid is None:
            return "stopped"
        return "serving" if each.is_ready(self.layout) else each.shortfall(self.layout)

    def _check_release(self) -> None:
        repository = Repository(self.layout.model_repository)
        try:
            if repository.live() is None and not repository.numbers():
                raise ClusterError(f"no release is exported to {repository.root} yet: run `make export`")
        except InputError as error:
            raise ClusterError(str(error)) from error

    def _start(self, each: Part) -> None:
        process = self.process(each.name)
        if process.pid is not None:
            return
        for port in self._ports(each):
            if not _is_free_within(port, PORT_LIMIT_S):
                raise ClusterError(
                    f"port {port}, which {each.name} needs, is in use by another program: "
                    f"stop it (`ss -ltnp 'sport = :{port}'` names it) or choose others: `make up PORT_OFFSET=100`"
                )
        each.prepare(self.layout)
        command = each.command(self.layout)
        if shutil.which(command[0]) is None:
            raise ClusterError(f"{each.name} cannot start, {command[0]} is missing: run `make setup`")
        process.start(command, each.environment(self.layout), ROOT)

    def _ports(self, each: Part) -> list[int]:
        ports = [self.layout.port(name) for name in each.ports]
        is_service = each.ports == (each.name,) and each.name not in WITHOUT_METRICS
        return [*ports, self.layout.metrics_port(each.name)] if is_service else ports

    def _wait_until_ready(self, parts: list[Part], begin: float) -> None:
        waiting = list(parts)
        while waiting:
            for each in list(waiting):
                self._check_alive(each)
                if self._is_ready(each, begin):
                    self._tell(begin, each, "ready")
                    waiting.remove(each)
            limit_s = START_LIMIT_S * max(1.0, self.layout.patience_s / Layout.patience_s)
            if waiting and time.monotonic() - begin > limit_s:
                raise ClusterError(self._obituary(waiting[0], f"was not ready after {limit_s:.0f} s"))
            time.sleep(POLL_S if waiting else 0)

    def _is_ready(self, each: Part, begin: float) -> bool:
        if not each.is_live(self.layout):
            return False
        each.settle(self.layout, lambda line: self._tell(begin, each, line))
        return each.is_ready(self.layout)

    def _check_alive(self, each: Part) -> None:
        if self.process(each.name).pid is None:
            raise ClusterError(self._obituary(each, "died while starting"))

    def _obituary(self, each: Part, what: str) -> str:
        process = self.process(each.name)
        lines = "\n".join(f"  | {line}" for line in process.tail(LOG_LINES_SHOWN))
        return f"{each.name} {what}; the end of {process.log_file.relative_to(ROOT)}:\n{lines}"

    def _tell(self, begin: float, each: Part, line: str) -> None:
        self.say(f"{time.monotonic() - begin:6.1f} s  {each.name:<15} {line}")


def _is_free_within(port: int, limit_s: float) -> bool:
    end = time.monotonic() + limit_s
    while is_taken(port):
        if time.monotonic() > end:
            return False
        time.sleep(POLL_S)
    return True


def is_taken(port: int) -> bool:
    """Tests by listening, as the part does."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False
