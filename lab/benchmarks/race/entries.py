"""Who takes part: every contestant as the runner starts, asks and stops it.

Workers are processes that do orders (contestants.worker); servers are asked over HTTP; the platform by its own client.
"""

import base64
import http.client
import json
import os
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from perfusion.client import PerFusion

from lab.benchmarks.race import processes
from lab.benchmarks.race.job import CANDIDATES, GUIDANCE, STEPS, keep, round_of

START_S = 300.0
MODULES = "lab.benchmarks.race.contestants"
PEERS_PYTHON = Path("build/race/venv/bin/python")
SERVICES_PYTHON = Path(".venv-services/bin/python")
LOGS = Path("build/race/logs")
PORTS = {"user_embedding": 50051, "generation": 50052, "feedback": 50054, "triton": 8001, "kafka": 9092}
PROFILE = {"style": "luxury", "price_level": "premium", "audience": ["professionals"]}


class DoesNotRun(Exception):
    """A contestant that did not start, or failed; says why."""


class Entry(ABC):
    """One contestant."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.mark = name.replace(" ", "-")
        self.about: dict[str, Any] = {}

    @abstractmethod
    def start(self) -> None:
        """Returns when it draws. DoesNotRun when it does not."""

    @abstractmethod
    def draw(self, rounds: Sequence[int], clients: int, folder: Path | None = None) -> None:
        """Draws these rounds, so many at a time; into a folder where it shall keep the pictures."""

    def cpu_s(self) -> float:
        """Of its processes so far."""
        return processes.cpu_s(processes.marked(self.mark))

    def stop(self) -> None:
        processes.stop(self.mark)


class Workers(Entry):
    """So many processes of one command; rounds that come at once are shared among them."""

    def __init__(
        self, name: str, command: Sequence[str], count: int = 2, more: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(name)
        self._command, self._count, self._more = command, count, more or {}
        self._processes: list[subprocess.Popen[str]] = []

    def start(self) -> None:
        logs = [LOGS / f"{self.mark}-{k}.log" for k in range(self._count)]
        self._processes = [processes.start(self.mark, self._command, log, self._more, pipes=True) for log in logs]
        for process, log in zip(self._processes, logs, strict=True):
            self.about = self._answer(process, log)["ready"]

    def draw(self, rounds: Sequence[int], clients: int, folder: Path | None = None) -> None:
        at_work = self._processes[: min(clients, self._count)]
        at_once = clients // len(at_work)
        for k, process in enumerate(at_work):
            own = list(rounds[k :: len(at_work)])
            order = {"rounds": own, "at_once": at_once, "folder": folder and str(folder)}
            assert process.stdin is not None
            process.stdin.write(json.dumps(order) + "\n")
            process.stdin.flush()
        for k, process in enumerate(at_work):
            self._answer(process, LOGS / f"{self.mark}-{k}.log")

    def _answer(self, process: "subprocess.Popen[str]", log: Path) -> dict[str, Any]:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise DoesNotRun(_last_line(log))
        answer: dict[str, Any] = json.loads(line)
        return answer


class Server(Entry):
    """A server of JSON over HTTP, in an environment that names its runtime and models."""

    def __init__(
        self, name: str, command: Sequence[str], port: int, path: str, more: Mapping[str, str], in_list: bool = False
    ) -> None:
        super().__init__(name)
        self._command, self._port, self._path = command, port, path
        self._more, self._in_list = {**more, "RACE_PORT": str(port)}, in_list

    def start(self) -> None:
        log = LOGS / f"{self.mark}.log"
        process = processes.start(self.mark, self._command, log, self._more, pipes=False)
        until = time.monotonic() + START_S
        while True:
            try:
                self._ask(http.client.HTTPConnection("127.0.0.1", self._port, timeout=START_S), 0)
                return
            except (OSError, http.client.HTTPException, DoesNotRun) as error:
                if process.poll() is not None or time.monotonic() > until:
                    raise DoesNotRun(f"{error}; {_last_line(log)}") from error
            time.sleep(0.5)

    def draw(self, rounds: Sequence[int], clients: int, folder: Path | None = None) -> None:
        def ask(numbers: Sequence[int]) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=START_S)
            for number in numbers:
                _keep(folder, number, self._ask(connection, number))
            connection.close()

        _side_by_side(ask, rounds, clients)

    def _ask(self, connection: http.client.HTTPConnection, number: int) -> list[bytes]:
        one = round_of(number)
        body: Any = {"prompt": one.prompt, "seeds": one.seeds}
        body = json.dumps({"rounds": [body]} if self._in_list else body)
        connection.request("POST", self._path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise DoesNotRun(f"HTTP {answer.status}: {content[:200]!r}")
        found = json.loads(content)
        return [base64.b64decode(png) for png in (found[0] if self._in_list else found)["pngs"]]


class Cluster:
    """A local cluster (deploy.local) on a repository of two releases; its name is its processes' mark."""

    def __init__(self, name: str, repository: Path, port_offset: int) -> None:
        self.name, self.repository, self.port_offset = name, repository, port_offset
        self.clients: list[PerFusion] = []
        self._home = Path("build") / name

    def triton_up(self) -> None:
        """Starts its Triton alone, with the releases that serve another cluster, which runs already."""
        self._local("up", "triton")

    def up(self, releases: Sequence[int], clients: int) -> None:
        """Starts it with these two releases loaded: the last one serves, the other is its fallback."""
        self._local("up")
        for release in releases:
            try:
                self.promote(release)
            except DoesNotRun:
                self._releases("load", release)
                self.promote(release)
        addresses = {name: self.address(name) for name in ("user_embedding", "generation", "feedback")}
        self.clients = [PerFusion(**addresses, identity=self._home / "client") for _ in range(clients)]
        for k, client in enumerate(self.clients):
            client.put_profile(f"merchant-{k}", PROFILE)

    def promote(self, release: int) -> None:
        """Has this release serve."""
        self._releases("promote", release)

    def down(self) -> None:
        for client in self.clients:
            client.close()
        self._local("down")
        processes.stop(self.name)

    def address(self, part: str) -> str:
        return f"127.0.0.1:{PORTS[part] + self.port_offset}"

    def cpu_s(self) -> float:
        """Of its processes so far."""
        return processes.cpu_s(processes.marked(self.name))

    def _local(self, *what: str) -> None:
        where = ["--name", self.name, "--port-offset", str(self.port_offset)]
        self._run("-m", "deploy.local", *where, "--model-repository", str(self.repository), *what)

    def _releases(self, what: str, release: int) -> None:
        where = ["--repository", str(self.repository), "--triton", self.address("triton")]
        where += ["--kafka", self.address("kafka"), "--certificates", str(self._home / "certificates" / "releases")]
        self._run("-m", "deploy.releases", what, str(release), *where)

    def _run(self, *arguments: str) -> None:
        environment = processes.environment(self.name, {"PYTHONPATH": ".:protos/gen:protos/client"})
        done = subprocess.run(
            [str(SERVICES_PYTHON), *arguments], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise DoesNotRun((done.stderr or done.stdout).strip().splitlines()[-1])


class Painting(Workers):
    """The generation service's drawing part on a Triton of its own, which counts with it: no service probes it."""

    def __init__(self, name: str, cluster: Cluster, release: int) -> None:
        where = ["--name", cluster.name, "--port-offset", str(cluster.port_offset), "--release", str(release)]
        command = [str(SERVICES_PYTHON), "-m", "deploy.benchmarks.painting", *where]
        more = {"PYTHONPATH": ".:protos/gen:protos/client"}
        super().__init__(name, [*command, "--model-repository", str(cluster.repository)], 1, more)
        self._cluster = cluster

    def cpu_s(self) -> float:
        return super().cpu_s() + self._cluster.cpu_s()


class Platform(Entry):
    """Whole rounds of the running cluster: profile, wishes, drawing, ranking, SQL, pictures' files and Kafka."""

    def __init__(self, name: str, cluster: Cluster, adapter_scale: float | None, release: int) -> None:
        super().__init__(name)
        self.release = release
        self._cluster = cluster
        self._settings: Any = {} if adapter_scale is None else {"adapter_scale": adapter_scale}

    def start(self) -> None:
        """The cluster runs already."""

    def stop(self) -> None:
        """The cluster is stopped for all."""

    def cpu_s(self) -> float:
        return self._cluster.cpu_s()

    def draw(self, rounds: Sequence[int], clients: int, folder: Path | None = None) -> None:
        free = list(enumerate(self._cluster.clients))

        def ask(numbers: Sequence[int]) -> None:
            k, client = free.pop()
            for number in numbers:
                one = round_of(number)
                group = client.generate(
                    f"merchant-{k}", one.prompt, seed=one.seeds[0], num_candidates=CANDIDATES, num_steps=STEPS,
                    guidance_scale=GUIDANCE, **self._settings,
                ).group()  # fmt: skip
                by_seed = sorted(group.candidates, key=lambda candidate: candidate.seed)
                _keep(folder, number, [candidate.png for candidate in by_seed])

        _side_by_side(ask, rounds, clients)


def _side_by_side(ask: Callable[[Sequence[int]], None], rounds: Sequence[int], clients: int) -> None:
    """So many threads share the rounds; what one of them raises is raised."""
    failed: list[Exception] = []

    def run(own: Sequence[int]) -> None:
        try:
            ask(own)
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=run, args=(rounds[k::clients],)) for k in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise DoesNotRun(str(failed[0])) from failed[0]


def _keep(folder: Path | None, number: int, pngs: Sequence[bytes]) -> None:
    """Refuses a round that lacks pictures."""
    if len(pngs) != CANDIDATES:
        raise DoesNotRun(f"round {number} came with {len(pngs)} pictures")
    keep(folder, number, pngs)


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"it ended without a word ({os.fspath(log)})"
