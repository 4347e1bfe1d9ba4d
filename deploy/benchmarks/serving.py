"""What load does to the generation service: throughput, small rounds beside large ones, a flood, an overload, previews.

    python -m deploy.benchmarks.serving            a platform of its own; a quarter of an hour, best on an idle machine
    python -m deploy.benchmarks.serving --quick    seconds of each part, to see that it runs

All ratios are of two things measured in the same run, turn by turn; A/A is the same thing twice, and nothing smaller
than its spread is a difference.

    throughput  1, 2, 4, 8 merchants with one round after the other, over the same models' calls sent to Triton without
                the platform, by 1 to as many threads: the best of these
    mix         small rounds, each of another merchant, alone and beside large ones that never end
    flood       four merchants with two rounds at a time, alone and beside one merchant with 8 at a time
    overload    rounds arrive by chance, at up to three times what the machine can do, with a deadline of 10 s: how many
                are delivered, how quickly others are refused, how many sample-steps are computed in vain
    previews    a round with a preview at every step beside one without

Prints a table; docs/results/serving.json has all, docs/pictures/serving.png the overload.
"""

import argparse
import json
import os
import statistics
import sys
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import grpc
import numpy as np
import tritonclient.grpc as triton
from perfusion.v1.generation_service_pb2 import GenerateRequest
from perfusion.v1.user_embedding_service_pb2 import PutUserProfileRequest
from tqdm import tqdm
from tritonclient.utils import triton_to_np_dtype

from deploy.benchmarks import cpu
from deploy.capacity.simulation import poisson
from deploy.local import parts
from deploy.local.clients import Clients, connect
from deploy.local.cluster import Cluster, ClusterError
from deploy.local.layout import ROOT, Layout
from deploy.local.triton_server import client_of

OUT = ROOT / "docs" / "results" / "serving.json"
PICTURE = ROOT / "docs" / "pictures" / "serving.png"
PROMPT = "dress,v-neck,slim-fit,long sleeves"
SMALL, USUAL, LARGE = (5, 4), (5, 6), (16, 50)  # candidates, steps
LARGE_ROUNDS, FLOOD_ROUNDS = 12, 8
MERCHANTS, CLIENTS = 64, (1, 2, 4, 8)
DEADLINE_S, LONG_S = 10.0, 120.0
LOADS = (0.5, 1.0, 2.0, 3.0)


@dataclass
class Told:
    """What rounds of one kind came to; many threads add to it."""

    latencies_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


@dataclass
class Platform:
    """A running cluster and its merchants."""

    layout: Layout
    clients: Clients
    client: triton.InferenceServerClient

    @cached_property
    def _release(self) -> str:
        return str(self.layout.release())

    def round(
        self, merchant: int, kind: tuple[int, int], told: Told, limit_s: float = LONG_S, previews: int = 0
    ) -> float:
        """How long one took, however it ended."""
        request = GenerateRequest(
            request_id=str(uuid.uuid4()), user_id=f"merchant-{merchant}", prompt=PROMPT,
            num_candidates=kind[0], num_steps=kind[1], preview_every_n_steps=previews,
        )  # fmt: skip
        began = time.monotonic()
        try:
            for _ in self.clients.generation.Generate(request, timeout=limit_s):
                pass
            told.latencies_s.append(time.monotonic() - began)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                told.refused_s.append(time.monotonic() - began)
            else:
                told.others[error.code().name] += 1
        return time.monotonic() - began

    def bare_round(self, kind: tuple[int, int]) -> None:
        """The calls of a round's models, one after the other, sent to Triton."""
        rows, steps = kind
        for model, batch, times in (
            ("text_encoder", rows, 1), ("denoiser", rows, steps), ("vae_decoder", rows, 1),
            ("reward_text", 1, 1), ("reward_image", rows, 1),
        ):  # fmt: skip
            inputs = self._inputs(model, batch)
            for _ in range(times):
                self.client.infer(model, inputs, model_version=self._release)

    def _inputs(self, model: str, batch: int) -> list[triton.InferInput]:
        made = []
        for tensor in self._metadata(model).inputs:
            values = np.ones([batch, *tensor.shape[1:]], triton_to_np_dtype(tensor.datatype))
            made.append(triton.InferInput(tensor.name, list(values.shape), tensor.datatype))
            made[-1].set_data_from_numpy(values)
        return made

    def _metadata(self, model: str, known: dict[str, Any] = {}) -> Any:  # noqa: B006 # a cache
        if model not in known:
            known[model] = self.client.get_model_metadata(model, model_version=self._release)
        return known[model]

    def counted(self, name: str) -> dict[str, float]:
        """A metric of the generation service, by the value of its one label."""
        return {
            next(iter(sample.labels.values()), ""): sample.value
            for family in parts.metrics(self.layout.metrics_port("generation"))
            for sample in family.samples
            if sample.name == name
        }


def together(work: Callable[[int], object], threads: int, seconds: float) -> list[int]:
    """So many threads call `work` with their number again and again; how often each did."""
    done, until = [0] * threads, time.monotonic() + seconds

    def repeat(k: int) -> None:
        while time.monotonic() < until:
            work(k)
            done[k] += 1

    _run([threading.Thread(target=repeat, args=(k,)) for k in range(threads)])
    return done


def _run(threads: Sequence[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def throughput(platform: Platform, seconds: float) -> dict[str, Any]:
    """Rounds a second of the platform, of the bare calls, and their ratio, by clients; A/A of the first."""

    def of_platform(threads: int) -> float:
        began, told = time.monotonic(), Told()
        together(lambda k: platform.round(k, USUAL, told), threads, seconds)
        return len(told.latencies_s) / (time.monotonic() - began)

    def bare(threads: int) -> float:
        began = time.monotonic()
        done = together(lambda _: platform.bare_round(USUAL), threads, seconds)
        return sum(done) / (time.monotonic() - began)

    found: dict[int, list[tuple[float, float, float]]] = {clients: [] for clients in CLIENTS}
    for _ in tqdm(range(3), desc="throughput"):
        for clients in CLIENTS:
            found[clients].append((of_platform(clients), bare(clients), of_platform(clients)))
    medians = {n: [statistics.median(column) for column in zip(*rows, strict=True)] for n, rows in found.items()}
    best_bare = {n: max(medians[m][1] for m in CLIENTS if m <= n) for n in CLIENTS}
    return {
        str(n): {
            "rounds_a_second": (first + second) / 2, "bare": best_bare[n],
            "ratio": (first + second) / 2 / best_bare[n], "a_a": second / first,
        }
        for n, (first, _, second) in medians.items()
    }  # fmt: skip


def mix(platform: Platform, rounds: int) -> dict[str, Any]:
    """Latencies of small rounds alone, and beside large ones."""

    def small() -> Told:
        told = Told()
        for k in range(rounds):
            platform.round(LARGE_ROUNDS + k % (MERCHANTS - LARGE_ROUNDS), SMALL, told)
            time.sleep(0.2)
        return told

    alone = small()
    ended, large = threading.Event(), Told()

    def keep_large(k: int) -> None:
        while not ended.is_set():
            if platform.round(k, LARGE, large, limit_s=600.0) < 1:
                time.sleep(1)

    threads = [threading.Thread(target=keep_large, args=(k,), daemon=True) for k in range(LARGE_ROUNDS)]
    for thread in threads:
        thread.start()
    time.sleep(5)
    beside = small()
    ended.set()
    large_in_flight = LARGE_ROUNDS - len(large.refused_s)
    for thread in threads:
        thread.join()
    return {
        "alone_s": _quantiles(alone.latencies_s), "beside_s": _quantiles(beside.latencies_s),
        "slowdown_p95": _p95(beside.latencies_s) / _p95(alone.latencies_s), "large": large_in_flight,
        "refused": len(beside.refused_s),
    }  # fmt: skip


def flood(platform: Platform, seconds: float) -> dict[str, Any]:
    """Four merchants' latencies without and with a fifth who has many rounds at a time; Jain's index of the five."""

    def four(with_flood: bool) -> tuple[Told, list[int]]:
        told, done = Told(), [0] * 5

        def work(k: int) -> None:
            if k < 8:
                platform.round(k % 4, USUAL, told)
                done[k % 4] += 1
            else:
                of_flood = Told()
                platform.round(4, USUAL, of_flood)
                done[4] += len(of_flood.latencies_s)
                time.sleep(0.1 * len(of_flood.refused_s))

        together(work, 8 + FLOOD_ROUNDS * with_flood, seconds)
        return told, done

    (before, _), (during, done), (after, _) = four(False), four(True), four(False)
    without = [*before.latencies_s, *after.latencies_s]
    return {
        "without_s": _quantiles(without), "with_s": _quantiles(during.latencies_s),
        "ratio_p95": _p95(during.latencies_s) / _p95(without),
        "a_a": _p95(after.latencies_s) / _p95(before.latencies_s),
        "rounds": done, "jain": sum(done) ** 2 / (len(done) * sum(n * n for n in done)),
    }  # fmt: skip


def overload(platform: Platform, capacity: float, seconds: float) -> list[dict[str, Any]]:
    """What becomes of rounds that arrive by chance, by load."""
    found = []
    for n, load in enumerate(tqdm(LOADS, desc="overload")):
        told, arrivals = Told(), [at for at, _ in poisson(load * capacity, seconds, [], seed=n)]
        before, own_s = platform.counted("perfusion_sample_steps_total"), cpu.process_s(os.getpid())
        began = time.monotonic() + 1

        def ask(k: int, at: float, told: Told = told, began: float = began) -> None:
            time.sleep(max(0.0, began + at - time.monotonic()))
            platform.round(k % MERCHANTS, USUAL, told, DEADLINE_S)

        _run([threading.Thread(target=ask, args=arrival) for arrival in enumerate(arrivals)])
        took_s = time.monotonic() - began
        after = platform.counted("perfusion_sample_steps_total")
        steps = {outcome: after.get(outcome, 0) - before.get(outcome, 0) for outcome in ("delivered", "in vain")}
        found.append({
            "load": load, "rounds": len(arrivals), "goodput": len(told.latencies_s) / took_s,
            "latency_s": _quantiles(told.latencies_s), "refused": len(told.refused_s),
            "refusal_s": _quantiles(told.refused_s), "others": dict(told.others),
            "in_vain": steps["in vain"] / max(1.0, sum(steps.values())),
            "client_cores": (cpu.process_s(os.getpid()) - own_s) / took_s,
        })  # fmt: skip
    return found


def previews(platform: Platform, rounds: int) -> dict[str, Any]:
    """Latency with a preview at every step over that without."""
    ways: list[Told] = [Told(), Told(), Told()]
    for _ in range(rounds):
        for told, every in zip(ways, (0, 1, 0), strict=True):
            platform.round(0, USUAL, told, previews=every)
    plain, shown, again = (statistics.median(told.latencies_s) for told in ways)
    return {"ratio": 2 * shown / (plain + again), "a_a": again / plain}


def _p95(values: Sequence[float]) -> float:
    return float(np.quantile(values, 0.95)) if values else float("nan")


def _quantiles(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    return {f"p{round(100 * q)}": float(np.quantile(values, q)) for q in (0.5, 0.95, 0.99)} | {"max": max(values)}


def table(found: dict[str, Any]) -> str:
    """For a reader."""
    lines = ["", "clients   rounds/s   over the best bare calls   A/A"]
    for n, row in found["throughput"].items():
        lines.append(f"{n:>7}   {row['rounds_a_second']:8.2f}   {row['ratio']:24.2f}   {row['a_a']:.2f}")
    of = found["mix"]
    lines += [
        "",
        f"small rounds beside {of['large']} large ones: p95 {of['beside_s']['p95']:.2f} s, {of['slowdown_p95']:.1f} "
        f"times that of alone ({of['alone_s']['p95']:.2f} s); {of['refused']} refused",
    ]
    of = found["flood"]
    lines += [
        f"four merchants beside a flood: p95 {of['ratio_p95']:.2f} times (A/A {of['a_a']:.2f}); Jain's index of rounds "
        f"{of['jain']:.3f}",
        f"a preview at every step: {found['previews']['ratio']:.2f} times (A/A {found['previews']['a_a']:.2f})",
        "",
        "load   goodput/s   over the peak   p95 latency   refused   p99 refusal   in vain   client's cores",
    ]
    peak = max(row["goodput"] for row in found["overload"])
    for row in found["overload"]:
        refusal = f"{1000 * row['refusal_s']['p99']:.0f} ms" if row["refused"] else "-"
        lines.append(
            f"{row['load']:4.1f}   {row['goodput']:9.2f}   {row['goodput'] / peak:13.2f}   "
            f"{row['latency_s']['p95']:9.2f} s   {row['refused']:7d}   {refusal:>11}   {row['in_vain']:7.1%}   "
            f"{row['client_cores']:14.2f}"
        )
    return "\n".join(lines)


def draw(rows: Sequence[dict[str, Any]]) -> None:
    """Goodput and latency by load."""
    import matplotlib  # takes a second to load; --help needs none

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, figsize=(7, 5), sharex=True, layout="constrained")
    loads = [row["load"] for row in rows]
    above.plot(loads, [row["goodput"] for row in rows], "o-", color="#4575b4")
    above.set(ylabel="delivered rounds a second", ylim=(0, None), title=f"Rounds that must be done in {DEADLINE_S:g} s")
    for name, label, colour in (("p50", "median", "#4575b4"), ("p95", "95th percentile", "#d73027")):
        below.plot(loads, [row["latency_s"][name] for row in rows], "o-", color=colour, label=label)
    below.set(xlabel="arriving rounds, over what the machine can do", ylabel="latency, s", ylim=(0, DEADLINE_S))
    below.legend()
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds of each part; writes nothing into docs/")
    parser.add_argument("--port-offset", type=int, default=1300, help="of its ports (default: %(default)s)")
    options = parser.parse_args()
    seconds, rounds = (2.0, 4) if options.quick else (8.0, 40)
    layout = Layout("serving", options.port_offset)
    cluster = Cluster(layout, say=lambda line: print(line, file=sys.stderr))
    try:
        cluster.up()
        with connect(layout) as clients, client_of(layout) as client:
            for k in range(MERCHANTS):
                clients.users.PutUserProfile(PutUserProfileRequest(user_id=f"merchant-{k}"), timeout=20)
            platform = Platform(layout, clients, client)
            together(lambda k: platform.round(k, USUAL, Told()), 2, seconds)  # warm
            found: dict[str, Any] = {"throughput": throughput(platform, seconds)}
            found["previews"] = previews(platform, rounds // 2)
            found["mix"] = mix(platform, rounds)
            found["flood"] = flood(platform, 3 * seconds)
            capacity = max(row["rounds_a_second"] for row in found["throughput"].values())
            found["overload"] = overload(platform, capacity, 5 * seconds)
    except ClusterError as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    finally:
        cluster.down()
    print(table(found))
    if not options.quick:
        OUT.write_text(json.dumps({"cores": len(os.sched_getaffinity(0)), **found}, indent=1) + "\n")
        draw(found["overload"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
