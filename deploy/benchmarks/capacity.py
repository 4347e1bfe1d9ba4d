"""Measures what a round costs on this machine, and whether deploy.capacity's simulation foretells an overload.

    python -m deploy.benchmarks.capacity            a platform of its own; some minutes, best on an idle machine

As many merchants as there are cores ask for one round after the other, of several sizes and numbers of steps, so that
times are those of a busy machine. Told are core-seconds: of each model's processes by batches and rows, and of
everything else by rounds and steps, less what an idle platform takes. Rounds that nothing disturbs tell what is left of
the latency: waits. Then rounds arrive by chance, at shares of what the machine can do, whether or not the ones before
have ended; the simulation gets the same arrivals. Writes deploy/capacity/measured.json, docs/results/capacity.json and
docs/pictures/capacity.png; prints medians, 95th percentiles and refusals, measured beside simulated.
"""

import argparse
import json
import os
import statistics
import sys
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton
from perfusion.v1.generation_service_pb2 import GenerateRequest
from perfusion.v1.group_pb2 import Group
from perfusion.v1.user_embedding_service_pb2 import PutUserProfileRequest
from tqdm import tqdm

from deploy.benchmarks import cpu
from deploy.capacity.measured import MODELS_OF_A_ROUND, CapacityError, Curve, Measured, Station, round_of
from deploy.capacity.planning import Demand, alone_s, machine_s
from deploy.capacity.simulation import Simulation, poisson
from deploy.local import model_processes
from deploy.local.clients import Clients, connect
from deploy.local.cluster import Cluster, ClusterError
from deploy.local.layout import ROOT, Layout
from deploy.local.parts import ROWS_ON_CORES
from deploy.local.triton_server import DENOISER, client_of

MEASURED = ROOT / "deploy" / "capacity" / "measured.json"
OUT = ROOT / "docs" / "results" / "capacity.json"
PICTURE = ROOT / "docs" / "pictures" / "capacity.png"
USER, PROMPT = "merchant", "dress,v-neck,slim-fit,long sleeves"
SIZES, STEPS = (1, 2, 3, 5, 8, 12, 16), (1, 6, 12, 24)
CANDIDATES, DEFAULT_STEPS = 5, 6
PLACES = 16  # PERFUSION_MAX_CONCURRENT_ROUNDS
LOADS = (0.5, 0.8, 1.0, 1.5, 3.0)  # of what the machine can do


@dataclass(frozen=True)
class Counters:
    """So far: of each model batches, rows and core-seconds; core-seconds of everything; seconds of the clock."""

    models: dict[str, tuple[float, float, float]]
    busy_s: float
    at_s: float

    def __sub__(self, before: "Counters") -> "Counters":
        models = {
            model: (now[0] - then[0], now[1] - then[1], now[2] - then[2])
            for model, now in self.models.items()
            for then in [before.models[model]]
        }
        return Counters(models, self.busy_s - before.busy_s, self.at_s - before.at_s)

    @property
    def models_s(self) -> float:
        return sum(seconds for _, _, seconds in self.models.values())


@dataclass(frozen=True)
class Run:
    """Some rounds of one kind, and what they took."""

    rounds: int
    steps: int
    took: Counters


@dataclass
class Platform:
    """A running cluster, and one merchant who asks for rounds."""

    layout: Layout
    clients: Clients
    client: triton.InferenceServerClient
    devices: int = 0  # that models run on, by Triton's word for how long; 0: on the cores

    def round(self, candidates: int, steps: int) -> tuple[Group, float]:
        """The group, and how long it took."""
        request = GenerateRequest(
            request_id=str(uuid.uuid4()), user_id=USER, prompt=PROMPT, num_candidates=candidates, num_steps=steps
        )
        began, group = time.monotonic(), Group()
        for event in self.clients.generation.Generate(request, timeout=120):
            if event.WhichOneof("event") == "group":
                group = event.group
        return group, time.monotonic() - began

    def counters(self) -> Counters:
        release = int(self.layout.release())
        pids = model_processes.processes(self.layout.shared_memory)
        told = self.client.get_inference_statistics().model_stats
        models = {}
        for each in told:
            if each.name in MODELS_OF_A_ROUND and each.version == str(release):
                on_cores = sum(cpu.process_s(pid) for pid in pids[each.name, release])
                on_devices = sum(batch.compute_infer.ns for batch in each.batch_stats) / 1e9
                seconds = on_devices if self.devices else on_cores
                models[each.name] = float(each.execution_count), float(each.inference_count), seconds
        return Counters(models, cpu.machine_s(), time.monotonic())

    def run(self, candidates: int, steps: int, rounds: int) -> Run:
        """So many rounds of each of as many merchants as there are cores."""
        before = self.counters()
        with ThreadPoolExecutor(cores()) as pool:
            for _ in pool.map(lambda _: self.round(candidates, steps), range(cores() * rounds)):
                pass
        return Run(cores() * rounds, steps, self.counters() - before)

    def measure(self, rounds: int) -> Measured:
        """What measured.json holds."""
        for _ in range(3):
            group, _ = self.round(CANDIDATES, DEFAULT_STEPS)
        idle = self._idle_load()
        kinds = [(size, DEFAULT_STEPS) for size in SIZES] + [(CANDIDATES, steps) for steps in STEPS]
        runs = [self.run(*kind, rounds) for kind in tqdm(kinds, desc="kinds of rounds")]
        stations = {
            model: Station(_curve([run.took.models[model] for run in runs]), *self._config(model))
            for model in MODELS_OF_A_ROUND
        }
        rest = [run.took.busy_s - idle * run.took.at_s - (0.0 if self.devices else run.took.models_s) for run in runs]
        work = Curve.fitted([run.rounds for run in runs], [run.rounds * run.steps for run in runs], rest)
        latencies = [self.round(CANDIDATES, DEFAULT_STEPS)[1] for _ in range(2 * rounds)]
        pngs = [len(candidate.png) for candidate in group.candidates]
        measured = Measured(
            name=f"{cores()} cores, {self.devices or 'no'} GPU",
            cores=cores(),
            devices=self.devices,
            stations=stations,
            idle_cores=idle,
            work_s=work.fixed_s,
            step_work_s=work.row_s,
            wait_s=0.0,
            picture_bytes=round(statistics.mean(pngs)),
            event_bytes=group.ByteSize() - sum(pngs) + 500,  # and its pick
        )
        waited = statistics.median(latencies) - alone_s(Demand(1, candidates=CANDIDATES, steps=DEFAULT_STEPS), measured)
        return replace(measured, wait_s=max(0.0, waited))

    def _idle_load(self) -> float:
        """Cores that health checks and the like keep busy."""
        busy, began = cpu.machine_s(), time.monotonic()
        time.sleep(10)
        return (cpu.machine_s() - busy) / (time.monotonic() - began)

    def _config(self, model: str) -> tuple[int, int]:
        """Instances, and the largest batch that they get."""
        config = self.client.get_model_config(model).config
        most_rows = ROWS_ON_CORES if model == DENOISER and not self.devices else int(config.max_batch_size)
        return sum(group.count for group in config.instance_group) or 1, most_rows

    def overload(self, rate: float, seconds: float, measured: Measured, seed: int) -> dict[str, Any]:
        """Rounds that arrive by chance, and the same arrivals simulated."""
        arrivals = poisson(rate, seconds, round_of(measured, CANDIDATES, DEFAULT_STEPS), seed)
        latencies, codes = list[float](), defaultdict[str, int](int)

        def ask(at: float) -> None:
            time.sleep(max(0.0, began + at - time.monotonic()))
            try:
                latencies.append(self.round(CANDIDATES, DEFAULT_STEPS)[1])
            except grpc.RpcError as error:
                codes[error.code().name] += 1

        began = time.monotonic() + 1
        threads = [threading.Thread(target=ask, args=(at,)) for at, _ in arrivals]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        simulated = Simulation(measured, 1, PLACES).run(arrivals)
        return {
            "rate": rate, "rounds": len(arrivals), "codes": dict(codes),
            "measured": _said(latencies, len(arrivals) - len(latencies)),
            "simulated": _said(simulated.latencies_s, simulated.refused),
        }  # fmt: skip


def _curve(counts: list[tuple[float, float, float]]) -> Curve:
    """Of batches, rows and core-seconds; a model that only ever computed batches of one size has no price of a row."""
    computed = [count for count in counts if count[0]]  # a model may answer from a cache
    if not computed:
        raise CapacityError("a model computed nothing: more --rounds")
    batches, rows, seconds = zip(*computed, strict=True)
    if len({n / m for n, m in zip(rows, batches, strict=True)}) == 1:
        return Curve(sum(seconds) / sum(batches), 0.0)
    return Curve.fitted(batches, rows, seconds)


def _said(latencies: list[float], refused: int) -> dict[str, float]:
    p50, p95 = (float(np.quantile(latencies, share)) for share in (0.5, 0.95))
    return {"p50_s": p50, "p95_s": p95, "refused_share": refused / max(1, refused + len(latencies))}


def cores() -> int:
    """That this process may use."""
    return len(os.sched_getaffinity(0))


def table(runs: list[Mapping[str, Any]]) -> str:
    """For a reader: measured | simulated."""
    lines = ["| rounds a second | median | 95th percentile | refused |", "|---|---|---|---|"]
    for run in runs:
        real, told = run["measured"], run["simulated"]
        lines.append(
            f"| {run['rate']:.2f} | {real['p50_s']:.2f} s, {told['p50_s']:.2f} s | "
            f"{real['p95_s']:.2f} s, {told['p95_s']:.2f} s | {real['refused_share']:.1%}, {told['refused_share']:.1%} |"
        )
    return "\n".join(["each: measured, simulated", "", *lines])


def draw(runs: list[Mapping[str, Any]], most: float) -> None:
    """Latencies and refusals by rate: what was measured as points, what was simulated as lines."""
    import matplotlib  # takes a second to load; --help needs none

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, figsize=(7, 6), sharex=True, height_ratios=(2, 1), layout="constrained")
    rates = [run["rate"] for run in runs]
    for axes, names in (
        (above, {"p50_s": "median", "p95_s": "95th percentile"}),
        (below, {"refused_share": "refused"}),
    ):
        for colour, (name, label) in zip(("#4575b4", "#d73027"), names.items(), strict=False):
            axes.plot(rates, [run["measured"][name] for run in runs], "o", color=colour, label=f"{label}, measured")
            axes.plot(rates, [run["simulated"][name] for run in runs], "-", color=colour, label=f"{label}, simulated")
        axes.axvline(most, color="#999999", linestyle=":")
        axes.legend()
    above.set(ylabel="latency of a round, s", ylim=(0, None), title="Rounds that arrive by chance; dotted: at most")
    below.set(xlabel="rounds a second", ylabel="share of rounds", ylim=(0, 1))
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12, help="of each size (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each load (default: %(default)g)")
    parser.add_argument("--devices", type=int, default=0, help="GPUs that Triton's models run on (default: none)")
    parser.add_argument("--port-offset", type=int, default=1200, help="of its ports (default: %(default)s)")
    options = parser.parse_args()
    layout = Layout("capacity", options.port_offset)
    cluster = Cluster(layout, say=lambda line: print(line, file=sys.stderr))
    try:
        cluster.up()
        with connect(layout) as clients, client_of(layout) as client:
            clients.users.PutUserProfile(PutUserProfileRequest(user_id=USER), timeout=20)
            platform = Platform(layout, clients, client, options.devices)
            measured = platform.measure(options.rounds)
            measured.write(MEASURED)
            demand = Demand(1, candidates=CANDIDATES, steps=DEFAULT_STEPS)
            most = 1 / machine_s(demand, measured)
            print(f"at most {most:.2f} rounds a second", file=sys.stderr)
            runs = list[Mapping[str, Any]]()
            for n, load in enumerate(tqdm(LOADS, desc="loads")):
                runs.append(platform.overload(load * most, options.seconds, measured, n))
    except (CapacityError, ClusterError) as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    finally:
        cluster.down()
    OUT.parent.mkdir(parents=True, exist_ok=True)
    OUT.write_text(json.dumps({"measured": measured.to_json(), "most": most, "runs": runs}, indent=1) + "\n")
    draw(runs, most)
    print(table(runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
