"""Whether anything grows: thousands of rounds with cancels, references, repeats and kills, and what each part holds.

    python -m deploy.benchmarks.soak                    2,000 rounds, 10,000 denoising steps, on a cluster of its own
    python -m deploy.benchmarks.soak --rounds 300 --steps 2000

Several clients play rounds at once: plain ones, with a reference picture, cancelled in the middle, cut off by a short
deadline, repeated under the same request_id, and refused. In the first quarter every part is killed once and started
again; a client whose round is lost waits until rounds are served again. A part that ends by itself is started again,
too, and named in the report. Pictures that stay in memory are few, so that a growth of generation is none of them, and
the object store is swept often. After each hundredth of the rounds it notes what the processes of each part hold
(resident memory, descriptors, threads) and the files of the object store that no stored group has. Prints the growth
from the second quarter to the last one, and draws build/bench/soak.png; build/bench/soak.json has every number.

Then come denoising steps of mixed batches, and whether the models' memory grows with their shapes, which is allowed by
2 %: see model_memory.py.
"""

import argparse
import asyncio
import io
import json
import random
import sqlite3
import statistics
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from perfusion.v1.feedback_service_pb2 import SubmitFeedbackRequest
from perfusion.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from perfusion.v1.generation_service_pb2 import GenerateRequest
from perfusion.v1.generation_service_pb2_grpc import GenerationServiceStub
from perfusion.v1.group_pb2 import Group
from perfusion.v1.user_embedding_service_pb2 import PutUserProfileRequest
from perfusion.v1.user_embedding_service_pb2_grpc import UserEmbeddingServiceStub
from perfusion.v1.user_pb2 import FeatureValue
from PIL import Image
from tqdm import tqdm

from deploy.benchmarks import model_memory
from deploy.local.clients import open_aio_channel
from deploy.local.cluster import Cluster, ClusterError
from deploy.local.layout import ROOT, Layout
from deploy.local.parts import PARTS, is_serving, part

OUT = ROOT / "build" / "bench"
CLIENTS = 3
CALL_TIMEOUT_S, OUTAGE_LIMIT_S = 60.0, 600.0
KINDS = {"plain": 8, "reference": 3, "cancelled": 4, "late": 1, "repeated": 2, "refused": 2}  # kind → weight
PROMPTS = ("dress,v-neck,slim-fit,long sleeves", "hoodie,loose fit", "coat,belted", "skirt,floral", "t-shirt,striped")
STEPS = (1, 2, 4)  # few: what leaks, leaks by the round
LOOKS = 100
SERVED = {
    "generation": "perfusion.v1.GenerationService/Generate",
    "feedback": "perfusion.v1.FeedbackService/SubmitFeedback",
}
SETTINGS = {
    "PERFUSION_REMEMBERED_PICTURE_BYTES": str(2**20),
    "PERFUSION_SWEEP_INTERVAL_S": "20",
    "PERFUSION_SWEEP_GRACE_S": "60",
}
LOST = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}  # what a killed part may answer with


@dataclass(frozen=True)
class Held:
    """By all processes of a part."""

    resident_mib: float
    descriptors: int
    threads: int
    processes: int


@dataclass
class Soaked:
    """A run: what each part held after how many rounds, and how the rounds ended."""

    rounds: list[int] = field(default_factory=list)
    held: dict[str, list[Held]] = field(default_factory=dict)
    unreferenced: list[int] = field(default_factory=list)  # files of the object store that no group has
    ended: dict[str, int] = field(default_factory=dict)  # kind of round and its end → how many
    crashed: list[tuple[str, int]] = field(default_factory=list)  # part that ended by itself, after how many rounds


def processes_of(leader: int) -> Iterator[Path]:
    """/proc folders of a part: it leads a session of its own."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            session = int((folder / "stat").read_text().rpartition(")")[2].split()[3])
        except OSError:
            continue  # it has ended meanwhile
        if session == leader:
            yield folder


def held_by(leader: int) -> Held:
    """What a part's processes hold now."""
    resident, descriptors, threads, processes = 0, 0, 0, 0
    for folder in processes_of(leader):
        try:
            status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
            descriptors += len(list((folder / "fd").iterdir()))
        except OSError:
            continue
        resident += int(status.get("VmRSS", "0 kB").split()[0])
        threads += int(status["Threads"])
        processes += 1
    return Held(resident / 1024, descriptors, threads, processes)


def unreferenced(layout: Layout) -> int:
    """Files of the object store that no stored candidate names: pictures of failed rounds, and scratch files."""
    with sqlite3.connect(f"file:{layout.home / 'generation.sqlite'}?mode=ro", uri=True) as database:
        known = {Path(uri.removeprefix("file://")) for (uri,) in database.execute("SELECT uri FROM candidates")}
    files = [path for path in (layout.home / "objects").rglob("*") if path.is_file() and not path.name.startswith(".")]
    return len(set(files) - known)


class Client:
    """Plays rounds of random kinds; what it does follows from its seed alone."""

    def __init__(self, layout: Layout, seed: int, ended: dict[str, int]) -> None:
        self._random, self._ended = random.Random(seed), ended
        self._user, self._layout = f"soak-{seed}", layout
        services = ("user_embedding", "generation", "feedback")
        self._channels = {name: open_aio_channel(layout, name) for name in services}
        self._generation = GenerationServiceStub(self._channels["generation"])
        self._feedback = FeedbackServiceStub(self._channels["feedback"])
        self._photograph = self._picture()

    async def begin(self) -> None:
        """Stores its profile."""
        features = {"style": FeatureValue(string_value="luxury")}
        users = UserEmbeddingServiceStub(self._channels["user_embedding"])
        await users.PutUserProfile(PutUserProfileRequest(user_id=self._user, features=features), timeout=CALL_TIMEOUT_S)

    async def play(self) -> None:
        """One round, and how it ended."""
        kind = self._random.choices(list(KINDS), list(KINDS.values()))[0]
        try:
            end = await getattr(self, f"_{kind}")()
        except grpc.aio.AioRpcError as error:
            end = error.code().name
            if error.code() in LOST:
                await self._wait_until_served()
        self._ended[f"{kind}: {end}"] = self._ended.get(f"{kind}: {end}", 0) + 1

    async def _wait_until_served(self) -> None:
        """Rounds that nobody could serve would wear nothing out."""
        async with asyncio.timeout(OUTAGE_LIMIT_S):
            for service, method in SERVED.items():
                while not await asyncio.to_thread(is_serving, self._layout, service, method):
                    await asyncio.sleep(0.2)

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close(None)

    def _request(self, **more: Any) -> GenerateRequest:
        seed = self._random.getrandbits(31)
        return GenerateRequest(
            request_id=str(uuid.UUID(int=self._random.getrandbits(128), version=4)), user_id=self._user,
            prompt=self._random.choice(PROMPTS), num_candidates=self._random.choice((1, 5)), seed=seed,
            preview_every_n_steps=self._random.choice((0, 2)), **({"num_steps": self._random.choice(STEPS)} | more),
        )  # fmt: skip

    def _picture(self) -> bytes:
        pixels = np.random.default_rng(self._random.getrandbits(32)).integers(0, 256, (480, 360, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG")
        return file.getvalue()

    async def _group(self, request: GenerateRequest) -> Group:
        async for event in self._generation.Generate(request, timeout=CALL_TIMEOUT_S):
            group = event.group
        return group

    async def _plain(self) -> str:
        group = await self._group(self._request())
        picked = [group.candidates[0].image_id]
        pick = SubmitFeedbackRequest(
            request_id=str(uuid.uuid4()), group_id=group.group_id, user_id=self._user, selected_image_ids=picked
        )
        await self._feedback.SubmitFeedback(pick, timeout=CALL_TIMEOUT_S)
        return "OK"

    async def _reference(self) -> str:
        strength = self._random.choice((0.3, 0.7))
        await self._group(self._request(reference_image=self._photograph, strength=strength))
        return "OK"

    async def _repeated(self) -> str:
        request = self._request()
        first = await self._group(request)
        again = await self._group(request)
        return "OK" if first.group_id == again.group_id else "ANOTHER GROUP"

    async def _cancelled(self) -> str:
        call = self._generation.Generate(self._request(num_steps=20), timeout=CALL_TIMEOUT_S)
        left = self._random.randrange(1, 12)
        async for _ in call:
            left -= 1
            if not left:
                call.cancel()
                return "CANCELLED"
        return "OK"

    async def _late(self) -> str:
        async for _ in self._generation.Generate(self._request(num_steps=50), timeout=self._random.uniform(0.05, 0.5)):
            pass
        return "OK"

    async def _refused(self) -> str:
        await self._group(self._request(guidance_scale=-1.0))
        return "OK"


def look(cluster: Cluster, played: int, soaked: Soaked) -> None:
    """Notes what everything holds now."""
    soaked.rounds.append(played)
    soaked.unreferenced.append(unreferenced(cluster.layout))
    for each in PARTS:
        leader = cluster.process(each.name).pid
        soaked.held.setdefault(each.name, []).append(held_by(leader) if leader else Held(0, 0, 0, 0))


def up(cluster: Cluster, names: Sequence[str]) -> None:
    """Returns when the parts serve."""
    for name in names:
        process = cluster.process(name)
        if name == "generation" and process.pid is None:
            each = part(name)
            process.start(each.command(cluster.layout), each.environment(cluster.layout) | SETTINGS, ROOT)
    cluster.up(names)


async def soak(cluster: Cluster, rounds: int) -> Soaked:
    """Plays them all."""
    soaked = Soaked()
    clients = [Client(cluster.layout, seed, soaked.ended) for seed in range(CLIENTS)]
    for client in clients:
        await client.begin()
    every = max(1, rounds // LOOKS)
    kills = {rounds // 4 * (i + 1) // (len(PARTS) + 1): each.name for i, each in enumerate(PARTS)}
    ahead, played = iter(range(rounds)), 0
    killing: set[asyncio.Task[None]] = set()
    changing = asyncio.Lock()  # of the parts that run

    async def revive() -> None:
        while True:
            await asyncio.sleep(1.0)
            async with changing:
                for each in PARTS:
                    if cluster.process(each.name).pid is None:
                        soaked.crashed.append((each.name, played))
                        await asyncio.to_thread(up, cluster, [each.name])

    async def kill(name: str) -> None:
        async with changing:
            await asyncio.to_thread(cluster.kill, name)
            await asyncio.to_thread(up, cluster, [name])

    with tqdm(total=rounds, unit="round") as bar:

        async def keep_playing(client: Client) -> None:
            nonlocal played
            for number in ahead:
                if number in kills:
                    killing.add(asyncio.create_task(kill(kills[number])))
                await client.play()
                played += 1
                bar.update()
                if played % every == 0:
                    await asyncio.to_thread(look, cluster, played, soaked)

        reviving = asyncio.create_task(revive())
        await asyncio.gather(*(keep_playing(client) for client in clients))
        await asyncio.gather(*killing)
        reviving.cancel()
    for client in clients:
        await client.close()
    return soaked


def growth(soaked: Soaked) -> dict[str, dict[str, float]]:
    """Part → what it holds → the median of the last quarter over the second quarter's."""
    found = {}
    for name, held in soaked.held.items():
        quarter = len(held) // 4
        of_part = {}
        for what in ("resident_mib", "descriptors", "threads", "processes"):
            values = [getattr(each, what) for each in held]
            before, after = values[quarter : 2 * quarter], values[-quarter:]
            of_part[what] = statistics.median(after) / max(statistics.median(before), 1e-9)
        found[name] = of_part
    return found


def draw(soaked: Soaked, path: Path) -> None:
    """Resident memory, descriptors and threads by part, and unreferenced files, over the rounds."""
    import matplotlib  # takes a second to load; --help needs none

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(4, 1, figsize=(9, 11), sharex=True, constrained_layout=True)
    for axis, what in zip(axes, ("resident_mib", "descriptors", "threads"), strict=False):
        for name, held in soaked.held.items():
            axis.plot(soaked.rounds, [getattr(each, what) for each in held], label=name, linewidth=1)
        axis.set_ylabel(what.replace("_", " "))
        axis.set_yscale("log")
    axes[0].legend(ncols=3, fontsize=8)
    axes[3].plot(soaked.rounds, soaked.unreferenced, color="black", linewidth=1)
    axes[3].set_ylabel("unreferenced files")
    axes[3].set_xlabel("rounds; every part is killed once in the first quarter")
    figure.savefig(path, dpi=90)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2_000, help="(default: %(default)s)")
    parser.add_argument("--steps", type=int, default=model_memory.STEPS, help="(default: %(default)s)")
    parser.add_argument("--port-offset", type=int, default=600, help="(default: %(default)s)")
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository", help="(default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.rounds < 40:
        parser.error(f"--rounds must be at least 40, not {arguments.rounds}: four quarters of ten looks")
    if arguments.steps < model_memory.LEAST_STEPS:
        parser.error(f"--steps must be at least {model_memory.LEAST_STEPS}, not {arguments.steps}")
    cluster = Cluster(Layout("soak", arguments.port_offset, arguments.repository.resolve()), say=print)
    try:
        up(cluster, [each.name for each in PARTS])
        soaked = asyncio.run(soak(cluster, arguments.rounds))
        held = model_memory.play(cluster, arguments.steps)
    except ClusterError as error:
        print(f"not soaked: {error}", file=sys.stderr)
        return 1
    finally:
        cluster.down()
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "soak.json").write_text(json.dumps(asdict(soaked) | {"growth": growth(soaked)}, indent=1) + "\n")
    draw(soaked, OUT / "soak.png")
    report(soaked)
    return 0 if model_memory.report(held) else 1


def report(soaked: Soaked) -> None:
    """What grew, and how the rounds ended."""
    print(f"{'last quarter over the second':<30} {'memory':>8} {'descriptors':>12} {'threads':>8} {'processes':>10}")
    for name, of in growth(soaked).items():
        print(
            f"{name:<30} "
            + f"{of['resident_mib']:8.3f} {of['descriptors']:12.3f} {of['threads']:8.3f} {of['processes']:10.3f}"
        )
    print(f"unreferenced files at the end: {soaked.unreferenced[-1]}, at most {max(soaked.unreferenced)}")
    for name, played in soaked.crashed:
        print(f"ended by itself after {played} rounds: {name}")
    for end, count in sorted(soaked.ended.items()):
        print(f"{count:6}  {end}")


if __name__ == "__main__":
    sys.exit(main())
