"""Races this platform against what people use to serve diffusion models: CPU-seconds a delivered picture.

    make race                                   installs the peers, then all of it; half an hour on an idle machine
    python -m lab.benchmarks.race --quick       one turn, to see that all run; writes nothing into docs/
    python -m lab.benchmarks.race --quick --only litserve "ours whole, plain"       these alone

Everyone does the same job: rounds of five pictures of 64 × 64, six steps of DPM-Solver++ with guidance, from the same
noise, PNG bytes out. Everyone has the same weights and two threads in all: two instances, processes or replicas of one
thread, since one of two threads takes a quarter more CPU. Each peer's configuration is its file in contestants/.

    ours plain              the generation service's drawing part and Triton: the job, and nothing else
    ours whole, plain       whole rounds of the platform with ranking, SQL, files and Kafka, without personalisation
    ours whole, wishes      the same as it is served: each candidate with the merchant's wishes
    ours whole, network     the same on a release that has an adaptive network, too (random weights; its cost counts)
    diffusers, optimum-onnx, openvino-genai         pipelines in two processes
    ray serve, bentoml, litserve                    servers with batching around the loop that costs least
    onnxruntime, openvino, mixed                    that loop alone, which is nobody's product; mixed takes the cheaper
                                                    of both for each graph, and openvino-bf16 draws other pictures

In each turn everyone draws the same rounds, for one client and for four at a time, in a random order. A ratio is the
median over turns of two contestants' ratio within a turn, with a 95 % bootstrap interval; "ours plain, again" is the
same thing twice, and nothing smaller than its interval is a difference. Before that, everyone's pictures are compared
with those of `onnxruntime`. CPU is user and system time of all of a contestant's processes; what they take while nobody
asks, and what the load generator takes, is told apart.
Writes docs/results/race.json and docs/pictures/race.png, and prints a table.
"""

import os
import random
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from contract.errors import InputError
from lab.benchmarks.race.entries import (
    MODULES,
    PEERS_PYTHON,
    Cluster,
    DoesNotRun,
    Entry,
    Painting,
    Platform,
    Server,
    Workers,
)
from lab.benchmarks.race.figures import Block, best, compared, ratio, table
from lab.benchmarks.race.job import CANDIDATES, STEPS, kept
from training.common.commands import parser_of
from training.common.places import TINY
from training.common.reports import write_report

OUT, PICTURE = Path("docs/results/race.json"), Path("docs/pictures/race.png")
CLIENTS = (1, 4)
ROUNDS = {1: 2, 4: 4}  # of a contestant, a turn
SHOWN = (0, 1, 2, 3)  # the rounds that are compared
SAME = 8  # levels of 255 that a picture may differ by, at most
OURS, AGAIN, REFERENCE = "ours plain", "ours plain, again", "onnxruntime"
PLAIN, WISHES, NETWORK = "ours whole, plain", "ours whole, wishes", "ours whole, network"
PEERS = ("diffusers", "optimum-onnx", "openvino-genai", "ray serve", "bentoml", "litserve")
OTHER_PICTURES = ("openvino-bf16", WISHES, NETWORK)
DDIM = "openvino-genai"  # which has no DPM-Solver++: its pictures are compared with those of as many steps of DDIM


def entries(cluster: Cluster, alone: Cluster, material: Any, runtime: str) -> tuple[dict[str, Entry], Entry]:
    """All of them, whose servers draw with this runtime; and who draws what a peer's sampler should."""
    python, repository = str(PEERS_PYTHON), str(material.repository)
    plain = material.plain_release
    serving = {
        "RACE_RUNTIME": runtime, "RACE_REPOSITORY": repository, "RACE_RELEASE": str(plain),
        "RAY_USAGE_STATS_ENABLED": "0", "BENTOML_DO_NOT_TRACK": "True",
    }  # fmt: skip

    compiler = {"TORCHINDUCTOR_CACHE_DIR": str(Path("build/race/inductor").resolve())}  # minutes, the first time

    def program(name: str, *arguments: str) -> list[str]:
        return [python, "-m", f"{MODULES}.{name}", *arguments]

    def loop(name: str) -> list[str]:
        return program("runtime_loop", name, repository, str(plain), str(max(CLIENTS) // 2))

    bentoml = [str(PEERS_PYTHON.with_name("bentoml")), "serve", f"{MODULES}.bentoml_server:Rounds"]
    all_of_them: list[Entry] = [
        Painting(OURS, alone, plain),
        Platform(PLAIN, cluster, 0.0, plain),
        Platform(WISHES, cluster, None, plain),
        Platform(NETWORK, cluster, None, material.network_release),
        *(Workers(name, loop(name)) for name in ("onnxruntime", "openvino", "mixed", "openvino-bf16")),
        Workers("diffusers", program("diffusers_pipeline", str(material.pipeline)), more=compiler),
        Workers("optimum-onnx", program("optimum_pipeline", str(material.onnx))),
        Workers("openvino-genai", program("genai_pipeline", str(material.onnx))),
        Server("litserve", program("litserve_server"), 18801, "/predict", serving),
        Server("bentoml", [*bentoml, "--host", "127.0.0.1", "--port", "18802"], 18802, "/draw", serving, in_list=True),
        Server("ray serve", program("ray_server"), 18803, "/", serving),
    ]
    return {entry.name: entry for entry in all_of_them}, Workers("ddim", [*loop("onnxruntime"), "ddim"], 1)


def started(chosen: Mapping[str, Entry], not_run: dict[str, str]) -> dict[str, Entry]:
    """Those that start, and draw a round for each client."""
    running = {}
    for name, entry in tqdm(chosen.items(), desc="starting"):
        try:
            entry.start()
            if name != NETWORK:
                for clients in CLIENTS:
                    entry.draw(range(clients), clients)
            running[name] = entry
        except (DoesNotRun, OSError) as error:
            not_run[name] = str(error)
            entry.stop()
    return running


def same_pictures(
    running: Mapping[str, Entry], by_ddim: Entry, folder: Path, not_run: dict[str, str]
) -> dict[str, Any]:
    """How far everyone's pictures lie from the reference's; who draws others is out of the race."""
    shutil.rmtree(folder, ignore_errors=True)

    def drawn(entry: Entry) -> np.ndarray:
        (own := folder / entry.mark).mkdir(parents=True)
        entry.draw(SHOWN, 1, own)
        return kept(own, SHOWN).astype(int)

    pictures = {name: drawn(entry) for name, entry in running.items() if name not in (WISHES, NETWORK)}
    reference = dict.fromkeys(pictures, pictures[REFERENCE])
    if DDIM in pictures:
        by_ddim.start()
        reference[DDIM] = drawn(by_ddim)
        by_ddim.stop()
    found = {}
    for name in pictures:
        apart = np.abs(pictures[name] - reference[name])
        found[name] = {"most": int(apart.max()), "mean": float(apart.mean())}
        if found[name]["most"] > SAME and name not in OTHER_PICTURES:
            not_run[name] = "it draws other pictures"
    return found


def race(
    running: Mapping[str, Entry], cluster: Cluster, turns: int, limit_s: float, seed: int
) -> dict[int, dict[str, list[Block]]]:
    """Every contestant's blocks by the number of clients, one a turn; who fails in a turn is out of it all."""
    found: dict[int, dict[str, list[Block]]] = {clients: {} for clients in CLIENTS}
    chance, serving = (
        random.Random(seed),
        next((entry.release for entry in running.values() if isinstance(entry, Platform)), 0),
    )
    until = time.monotonic() + limit_s
    for turn in tqdm(range(turns), desc="turns"):
        if turn and time.monotonic() > until:
            break
        order = [*running, *([AGAIN] if OURS in running else [])]
        chance.shuffle(order)
        order.sort(key=lambda name: (name == NETWORK) != bool(turn % 2))  # one change of the release a turn
        for name in order:
            entry = running[OURS if name == AGAIN else name]
            if isinstance(entry, Platform) and entry.release != serving:
                cluster.promote(entry.release)
                serving = entry.release
                entry.draw(range(4), 2)  # the caches of a release that serves anew
            for clients in CLIENTS:
                rounds = range(turn * ROUNDS[clients], (turn + 1) * ROUNDS[clients])
                found[clients].setdefault(name, []).append(measured(entry, rounds, clients))
    return found


def measured(entry: Entry, rounds: Sequence[int], clients: int) -> Block:
    """One block."""
    before, own, began = entry.cpu_s(), time.process_time(), time.monotonic()
    entry.draw(rounds, clients)
    wall_s = time.monotonic() - began
    return Block(len(rounds) * CANDIDATES, entry.cpu_s() - before, wall_s, time.process_time() - own)


def idle_cores(running: Mapping[str, Entry], seconds: float) -> dict[str, float]:
    """What everyone's processes take while nobody asks anything."""
    before, began = {name: entry.cpu_s() for name, entry in running.items()}, time.monotonic()
    time.sleep(seconds)
    passed_s = time.monotonic() - began
    found = {name: (entry.cpu_s() - before[name]) / passed_s for name, entry in running.items()}
    return found | ({AGAIN: found[OURS]} if OURS in found else {})


def goals(
    blocks: Mapping[str, Sequence[Block]], found: Mapping[str, Mapping[str, Any]], clients: int
) -> list[dict[str, Any]]:
    """What is aimed at, as far as its contestants ran. Whole rounds are compared less what an idle platform takes."""

    def of(name: str, other: str) -> list[Block]:
        whole = {name, other} <= {PLAIN, WISHES, NETWORK}
        return [block.without(found[name]["idle_cores"] * whole) for block in blocks[name]]

    wanted = []
    if peers := [name for name in PEERS if name in found]:
        peer = best(found, peers)
        wanted += [
            (f"plain: pictures a CPU-second over {peer}'s", "≥ 1.3", peer, OURS),
            (f"wishes, ranked: over {peer}'s, which draws plainly", "≥ 1.0", peer, WISHES),
        ]
    wanted += [
        ("wishes over plain, whole rounds: CPU a picture", "≤ 1.02", WISHES, PLAIN),
        ("network and wishes over plain, whole rounds: CPU a picture", "≤ 1.15", NETWORK, PLAIN),
        ("noise: ours plain over itself", "", AGAIN, OURS),
    ]
    return [
        {"what": f"{what}, {clients} at once", "aim": aim, **ratio(of(over, under), of(under, over))}
        for what, aim, over, under in wanted
        if over in blocks and under in blocks
    ]


def draw_picture(report: Mapping[str, Any]) -> None:
    """CPU a picture of everyone, by the number of clients."""
    import matplotlib  # takes a second to load

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, len(report["clients"]), figsize=(11, 4.2), sharex=True, layout="constrained")
    for panel, (clients, found) in zip(panels, report["clients"].items(), strict=True):
        names = sorted(found, key=lambda name: -float(found[name]["cpu_s_a_picture"]))
        colours = [
            "#4575b4" if name.startswith("ours") else "#d73027" if name in PEERS else "#999999" for name in names
        ]
        panel.barh(names, [1000 * found[name]["cpu_s_a_picture"] for name in names], color=colours)
        panel.set(xlabel="CPU milliseconds a picture", title=f"{clients} round{'s' * (int(clients) > 1)} at a time")
    figure.suptitle("Blue: this platform. Red: peers. Grey: runtimes alone.")
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=110)


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--quick", action="store_true", help="one turn; writes nothing into docs/")
    parser.add_argument("--turns", type=int, default=12, help="of everyone (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=30.0, help="no turn begins after (default: %(default)s)")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help=f"these contestants, beside {REFERENCE!r} and {OURS!r}"
    )
    parser.add_argument(
        "--runtime",
        default="mixed",
        choices=("onnxruntime", "openvino", "mixed"),
        help="of the servers (default: %(default)s)",
    )
    parser.add_argument("--weights", type=Path, default=TINY, help="the family of the release (default: %(default)s)")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="where its newest release is")
    parser.add_argument("--port-offset", type=int, default=1500, help="of the platform's ports (default: %(default)s)")
    options = parser.parse_args()
    if options.turns < 1:
        parser.error("--turns is at least 1")
    if not PEERS_PYTHON.is_file():
        print(f"not raced: {PEERS_PYTHON} is missing, `make race` installs the peers", file=sys.stderr)
        return 1

    from lab.benchmarks.race.material import make  # torch takes seconds to load
    from training.models.family import hush_libraries

    hush_libraries()
    try:
        material = make(options.weights, options.repository)
    except (InputError, OSError) as error:
        print(f"not raced: {error}", file=sys.stderr)
        return 1
    cluster = Cluster("race-platform", material.repository, options.port_offset)
    alone = Cluster("race-triton", material.repository, options.port_offset + 100)
    everyone, by_ddim = entries(cluster, alone, material, options.runtime)
    if unknown := set(options.only or ()) - set(everyone):
        parser.error(f"no contestant is called {', '.join(sorted(unknown))}; there are {', '.join(everyone)}")
    chosen = {name: entry for name, entry in everyone.items() if name in {*(options.only or everyone), REFERENCE, OURS}}
    not_run: dict[str, str] = {}
    try:
        cluster.up((material.network_release, material.plain_release), max(CLIENTS))
        alone.triton_up()
        running = started(chosen, not_run)
        same = same_pictures(running, by_ddim, Path("build/race/pictures"), not_run)
        running = {name: entry for name, entry in running.items() if name not in not_run}
        load, idle = os.getloadavg(), idle_cores(running, 2.0 if options.quick else 20.0)
        blocks = race(running, cluster, 1 if options.quick else options.turns, 60 * options.minutes, seed=0)
    except DoesNotRun as error:
        print(f"not raced: {error}", file=sys.stderr)
        return 1
    finally:
        for entry in (*chosen.values(), by_ddim):
            entry.stop()
        for each in (alone, cluster):
            each.down()
    found = {clients: compared(of, OURS, idle) for clients, of in blocks.items()}
    report = {
        "cores": len(os.sched_getaffinity(0)),
        "load_before_and_after": [load[0], os.getloadavg()[0]],
        "job": {"candidates": CANDIDATES, "steps": STEPS, "sampler": "dpmsolver++2m"},
        "turns": len(next(iter(blocks[1].values()))),
        "runtime_of_servers": options.runtime,
        "versions": {name: entry.about for name, entry in running.items() if entry.about},
        "clients": {str(clients): of for clients, of in found.items()},
        "goals": [goal for clients in CLIENTS for goal in goals(blocks[clients], found[clients], clients)],
        "same_pictures": same,
        "not_run": not_run,
    }  # fmt: skip
    print(table(report))
    if not options.quick:
        write_report(OUT, report)
        draw_picture(report)
    return 0


if __name__ == "__main__":
    sys.exit(main())
