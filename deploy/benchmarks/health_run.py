"""Whether health tells the truth: every part fails in turn, while each method is called and its health asked for.

    python -m deploy.benchmarks.health_run [kill] [stop] [full] [read-only]     (default: all four)

Starts a cluster of its own whose stores lie on small disks (deploy/benchmarks/disks.py: needs root), breaks one part
after the other, and each second calls every method and asks for its health. Writes build/bench/health/KIND.json;
`python -m deploy.benchmarks.health_strips` counts and draws them.

A call that fails within its deadline, or has no answer then, could not be served in the second in which it began.
"""

import argparse
import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from perfusion.v1 import feedback_service_pb2 as feedback
from perfusion.v1 import generation_service_pb2 as generation
from perfusion.v1 import ranking_service_pb2 as ranking
from perfusion.v1 import user_embedding_service_pb2 as users
from perfusion.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from perfusion.v1.generation_service_pb2_grpc import GenerationServiceStub
from perfusion.v1.group_pb2 import Candidate, Group
from perfusion.v1.ranking_service_pb2_grpc import RankingServiceStub
from perfusion.v1.user_embedding_service_pb2_grpc import UserEmbeddingServiceStub

from deploy.benchmarks.disks import Disk
from deploy.local.clients import open_aio_channel
from deploy.local.cluster import Cluster
from deploy.local.layout import ROOT, Layout
from deploy.local.parts import SERVICES, Part, part

OUT = ROOT / "build" / "bench" / "health"
KINDS = ("kill", "stop", "full", "read-only")
USER = "merchant"
STUBS: dict[str, Callable[[grpc.aio.Channel], Any]] = {
    "user_embedding": UserEmbeddingServiceStub,
    "ranking": RankingServiceStub,
    "generation": GenerationServiceStub,
    "feedback": FeedbackServiceStub,
}
NAMES = {
    "user_embedding": "perfusion.v1.UserEmbeddingService",
    "ranking": "perfusion.v1.RankingService",
    "generation": "perfusion.v1.GenerationService",
    "feedback": "perfusion.v1.FeedbackService",
}
HEALTH_INTERVAL_S, HEALTH_CHECK_S = 1.0, 3.0  # the services' defaults
CALL_TIMEOUT_S, HEALTH_TIMEOUT_S = 5.0, 0.9
BROKEN_S, MENDED_S = 10, 5  # how long each failure lasts, and the time after its end
READY_LIMIT_S = 120.0
UNSEEN = 80  # groups at the beginning, for picks while none can be made
STORES = {"generation": 16, "user_embedding": 16, "feedback": 16, "objects": 16}  # MiB
KAFKA_MIB = 256


@dataclass(frozen=True)
class Failure:
    """Something breaks, and is mended."""

    name: str
    begin: Callable[[], None]
    end: Callable[[], None]
    hangs: bool = False  # calls to the part get no answer, rather than a refusal


@dataclass
class Second:
    """What a method's health said, and how a call that began then ended; until it is known, as if it had no answer."""

    serving: bool = False
    outcome: str = "DEADLINE_EXCEEDED"


@dataclass(frozen=True)
class Broken:
    """A failure of a run, in seconds from its begin."""

    name: str
    begin_s: float
    end_s: float
    hangs: bool


@dataclass
class Record:
    """A run."""

    kind: str
    interval_s: float
    timeout_s: float
    failures: list[Broken] = field(default_factory=list)
    seen: dict[str, list[Second]] = field(default_factory=dict)  # by method


class Platform:
    """A cluster whose stores lie on disks of their own."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.cluster = Cluster(layout, say=print)
        disks = layout.home / "disks"
        self.disks = {name: Disk(disks / name, size) for name, size in STORES.items()}
        self.disks["kafka"] = Disk(layout.home / f"kafka-{layout.port('kafka')}", KAFKA_MIB)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Everything serves, and is gone at the end."""
        self.cluster.down()
        for disk in self.disks.values():
            disk.mount()
        try:
            for name in SERVICES:
                self.start(name)
            self.cluster.up()
            yield
        finally:
            self.cluster.down()
            for disk in self.disks.values():
                disk.unmount()

    def start(self, name: str) -> None:
        """Starts a part and waits for nothing."""
        each = part(name)
        if name not in SERVICES:
            self.cluster.start([name])
        elif self.cluster.process(name).pid is None:
            self.cluster.process(name).start(each.command(self.layout), self._environment(each), ROOT)

    def _environment(self, each: Part) -> dict[str, str]:
        """Vectors are not remembered, so that each call needs what its method may need."""
        own = {"PERFUSION_OBJECT_STORE_URL": f"file://{self.disks['objects'].folder}"}
        if each.name in self.disks:
            own["PERFUSION_DATABASE_URL"] = f"sqlite:///{self.disks[each.name].folder / 'records.sqlite'}"
        own |= {
            "PERFUSION_HEALTH_INTERVAL_S": str(HEALTH_INTERVAL_S),
            "PERFUSION_HEALTH_TIMEOUT_S": str(HEALTH_CHECK_S),
        }
        return each.environment(self.layout) | own | {"PERFUSION_REMEMBERED_EMBEDDINGS": "0"}

    def restart(self, name: str) -> None:
        """Of a part that may still run: kills it and starts it, until it is ready."""
        self.cluster.kill(name)
        self.start(name)
        if name not in SERVICES:
            self.cluster.up([name])

    def signal(self, name: str, number: signal.Signals) -> None:
        """To all processes of a part."""
        pid = self.cluster.process(name).pid
        if pid is not None:
            os.killpg(pid, number)

    def kill_denoisers(self, most: int) -> None:
        """Processes that compute denoising steps, as the kernel does when memory runs out. Nothing revives them yet."""
        self.cluster.stop("keeper")
        pid = self.cluster.process("triton").pid
        found = subprocess.run(
            ["pgrep", "-P", str(pid), "-f", "/denoiser/"], capture_output=True, text=True, check=True
        )
        release = f"/denoiser/{self.layout.release()}/"
        ours = [int(line) for line in found.stdout.split() if release in Path(f"/proc/{line}/cmdline").read_text()]
        for process in ours[:most]:
            os.kill(process, signal.SIGKILL)

    def failures(self, kind: str) -> list[Failure]:
        """Of a kind, of every part in turn."""
        names = ("ranking", "user_embedding", "generation", "feedback", "kafka", "triton")
        if kind == "kill":
            kills = [Failure(name, partial(self.cluster.kill, name), partial(self.restart, name)) for name in names]
            return [
                *kills,
                Failure("one denoiser process", partial(self.kill_denoisers, 1), self._revive_models, hangs=True),
                Failure("all of them", partial(self.kill_denoisers, 99), self._revive_models, hangs=True),
            ]  # Triton waits a second for a dead process in every call
        if kind == "stop":
            stop = partial(self.signal, number=signal.SIGSTOP)
            return [Failure(name, partial(stop, name), partial(self._go_on, name), hangs=True) for name in names]
        if kind == "full":
            return [Failure(n, disk.fill, partial(self._mend, n, disk.empty)) for n, disk in self.disks.items()]
        return [
            Failure(n, disk.make_read_only, partial(self._mend, n, disk.make_writable))
            for n, disk in self.disks.items()
        ]

    def _revive_models(self) -> None:
        """The keeper does it."""
        self.cluster.up(["keeper", "triton"])

    def _go_on(self, name: str) -> None:
        self.signal(name, signal.SIGCONT)
        time.sleep(1.0)
        self._revive(name)

    def _mend(self, name: str, mend: Callable[[], None]) -> None:
        mend()
        self._revive(name)

    def _revive(self, name: str) -> None:
        """A broker ends when it cannot write; Triton may not outlive a stop."""
        if name in ("kafka", "triton") and self.cluster.process(name).pid is None:
            self.restart(name)


class Calls:
    """One call of every method, and one question for the health of each."""

    def __init__(self, layout: Layout) -> None:
        options = [("grpc.max_reconnect_backoff_ms", 500), ("grpc.max_receive_message_length", 32 * 2**20)]
        self._channels = {name: open_aio_channel(layout, name, options) for name in SERVICES}
        self._stubs = {name: stub(self._channels[name]) for name, stub in STUBS.items()}
        self._health = {name: health_pb2_grpc.HealthStub(channel) for name, channel in self._channels.items()}
        self._group: Any = None  # that is read
        self._unseen: deque[Any] = deque()  # groups to pick from: feedback remembers those that it has seen

    async def prepare(self) -> None:
        """Waits until all serve, and makes a merchant, a group and a pick, which later calls read."""
        await self.all_serving()
        for method in ("PutUserProfile", "Generate", "SubmitFeedback", *["Generate"] * (UNSEEN // 4)):
            several = 4 if method == "Generate" else 1  # share the models' batches
            for code in await asyncio.gather(*(self.outcome(method, READY_LIMIT_S) for _ in range(several))):
                if code != "OK":
                    raise RuntimeError(f"the cluster serves, but {method} answers {code}")

    async def all_serving(self) -> None:
        """Returns once every service says that it serves all its methods."""
        async with asyncio.timeout(READY_LIMIT_S):
            while not all([await self.serving(name, "") for name in SERVICES]):
                await asyncio.sleep(0.5)

    async def outcome(self, method: str, timeout_s: float = CALL_TIMEOUT_S) -> str:
        """The status of one call."""
        service, request = self._requests()[method]
        if method == "SubmitFeedback" and len(self._unseen) > 1:
            self._unseen.popleft()
        try:
            answer = getattr(self._stubs[service], method)(request, timeout=timeout_s)
            if method == "Generate":
                async for event in answer:
                    if event.HasField("group"):
                        self._group = self._group or event.group
                        self._unseen.append(event.group)
            else:
                await answer
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"

    async def serving(self, service: str, name: str) -> bool:
        """Whether a service says so of a name; no answer is a no."""
        try:
            asked = health_pb2.HealthCheckRequest(service=name)
            answer = await self._health[service].Check(asked, timeout=HEALTH_TIMEOUT_S)
        except grpc.aio.AioRpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def _requests(self) -> dict[str, tuple[str, Any]]:
        """Method → service, and what is asked of it now."""
        group = self._group or Group()
        best = group.candidates[0] if group.candidates else Candidate()
        unseen = self._unseen[0] if self._unseen else Group(candidates=[Candidate()])
        painted = generation.GenerateRequest(
            request_id=_new_id(), user_id=USER, prompt="dress", num_candidates=1, num_steps=1
        )
        return {
            "PutUserProfile": ("user_embedding", users.PutUserProfileRequest(user_id=USER)),
            "GetUserProfile": ("user_embedding", users.GetUserProfileRequest(user_id=USER)),
            "GetUserEmbedding": ("user_embedding", users.GetUserEmbeddingRequest(user_id=USER)),
            "BatchGetUserEmbeddings": ("user_embedding", users.BatchGetUserEmbeddingsRequest(user_ids=[USER])),
            "Rank": ("ranking", ranking.RankRequest(user_id=USER, prompt="dress", images=[best.png])),
            "Generate": ("generation", painted),
            "SuggestPhrases": (
                "generation",
                generation.SuggestPhrasesRequest(user_id=USER, prompt="dress", prefix="v-"),
            ),
            "GetGroup": ("generation", generation.GetGroupRequest(group_id=group.group_id)),
            "ListGroups": ("generation", generation.ListGroupsRequest(user_id=USER, page_size=1)),
            "GetReleaseInfo": ("generation", generation.GetReleaseInfoRequest()),
            "SubmitFeedback": (
                "feedback",
                feedback.SubmitFeedbackRequest(
                    request_id=_new_id(),
                    user_id=USER,
                    group_id=unseen.group_id,
                    selected_image_ids=[unseen.candidates[0].image_id],
                ),
            ),
            "GetFeedback": ("feedback", feedback.GetFeedbackRequest(user_id=USER, group_id=group.group_id)),
            "ListFeedback": ("feedback", feedback.ListFeedbackRequest(user_id=USER)),
        }

    async def watch(self, record: Record, begun: float) -> None:
        """Each second one call of each method and one question, until cancelled."""
        methods = {method: service for method, (service, _) in self._requests().items()}
        async with asyncio.TaskGroup() as asking:
            for second in itertools.count():
                await asyncio.sleep(begun + second - time.monotonic())
                for method, service in methods.items():
                    seen = Second()
                    record.seen.setdefault(method, []).append(seen)
                    asking.create_task(self._look(seen, service, method))

    async def _look(self, seen: "Second", service: str, method: str) -> None:
        name = f"{NAMES[service]}/{method}"
        seen.serving, seen.outcome = await asyncio.gather(self.serving(service, name), self.outcome(method))

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close(None)


async def run(platform: Platform, kind: str) -> Record:
    """Breaks and mends every part in turn."""
    record, calls = Record(kind, HEALTH_INTERVAL_S, HEALTH_CHECK_S), Calls(platform.layout)
    await calls.prepare()
    begun = time.monotonic()
    watching = asyncio.create_task(calls.watch(record, begun))
    await asyncio.sleep(MENDED_S)
    for failure in platform.failures(kind):
        print(f"{time.monotonic() - begun:6.1f} s  {kind}: {failure.name}", flush=True)
        began_s = time.monotonic() - begun
        await asyncio.to_thread(failure.begin)
        await asyncio.sleep(BROKEN_S)
        record.failures.append(Broken(failure.name, began_s, time.monotonic() - begun, failure.hangs))
        await asyncio.to_thread(failure.end)
        await calls.all_serving()
        await asyncio.sleep(MENDED_S)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await calls.close()
    for seconds in record.seen.values():
        del seconds[-round(CALL_TIMEOUT_S) - 1 :]  # some of their calls were still in flight
    return record


def _new_id() -> str:
    return str(uuid.uuid4())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], default=[], help=", ".join(KINDS))
    parser.add_argument("--port-offset", type=int, default=600, help="(default: %(default)s)")
    arguments = parser.parse_args()
    if os.geteuid():
        sys.exit("mounting small disks needs root")
    platform = Platform(Layout("health", arguments.port_offset))
    OUT.mkdir(parents=True, exist_ok=True)
    with platform.running():
        for kind in arguments.kinds or KINDS:
            record = asyncio.run(run(platform, kind))
            (OUT / f"{kind}.json").write_text(json.dumps(asdict(record)) + "\n")


if __name__ == "__main__":
    main()
