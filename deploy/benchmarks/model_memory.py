"""Whether the models' memory grows with the shapes of their batches: denoising steps of mixed sizes, through Triton.

    python -m deploy.benchmarks.model_memory                 10,000 steps on a Triton of its own
    python -m deploy.benchmarks.model_memory --steps 2000

As many threads as the denoiser has instances send batches of 1 to 16 rows, every size as often. After each hundred
it notes what the server and the processes of each model hold, without libraries. The first 500 steps warm up: by then
every shape has come. It fails if the last tenth's median lies more than 2 % over that of the first tenth after them.
Draws build/bench/model-memory.png; build/bench/model-memory.json has every number. `make soak` ends with the same.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from tqdm import tqdm
from tritonclient.utils import triton_to_np_dtype

from deploy.local import model_processes
from deploy.local.cluster import Cluster, ClusterError
from deploy.local.layout import ROOT, Layout
from deploy.local.triton_server import DENOISER, client_of

OUT = ROOT / "build" / "bench"
STEPS, MOST_ROWS, WARM_UP, EVERY = 10_000, 16, 500, 100
LEAST_STEPS = 2 * WARM_UP
MOST_GROWTH = 1.02
SERVER = "triton"


@dataclass
class Held:
    """What the processes of each model, and the server, held after how many steps, in MiB."""

    steps: list[int] = field(default_factory=list)
    own_mib: dict[str, list[float]] = field(default_factory=dict)

    def note(self, steps: int, own_mib: dict[str, float]) -> None:
        """Adds one look; a model that was not there before held nothing."""
        self.steps.append(steps)
        for name in self.own_mib.keys() | own_mib.keys():
            values = self.own_mib.setdefault(name, [0.0] * (len(self.steps) - 1))
            values.append(own_mib.get(name, 0.0))

    def total(self) -> list[float]:
        """All of them together, by look."""
        return [sum(values) for values in zip(*self.own_mib.values(), strict=True)]

    def growth(self, warm_up: int = WARM_UP) -> float:
        """The median of the last tenth of the looks over that of the first tenth after the warm-up."""
        warm = [mib for steps, mib in zip(self.steps, self.total(), strict=True) if steps > warm_up]
        tenth = max(1, len(warm) // 10)
        return statistics.median(warm[-tenth:]) / statistics.median(warm[:tenth])


def own_mib(pid: int) -> float:
    """A process's own memory and its share of what it shares with others, in MiB; 0 if it has ended.

    Without files, such as libraries: they cannot grow, and their share depends on who else maps them.
    """
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
        held = {name: int(rest.split()[0]) for name, _, rest in (line.partition(":") for line in lines)}
        return (held["Pss_Anon"] + held["Pss_Shmem"]) / 1024
    return 0.0


def held_now(cluster: Cluster) -> dict[str, float]:
    """Model → MiB of its processes; and the server's."""
    found: dict[str, float] = {}
    for (model, _), pids in model_processes.processes(cluster.layout.shared_memory).items():
        found[model] = found.get(model, 0.0) + sum(map(own_mib, pids))
    server = cluster.process("triton").pid
    return found | {SERVER: own_mib(server) if server else 0.0}


def batches(layout: Layout, client: triton.InferenceServerClient, seed: int) -> Iterator[list[triton.InferInput]]:
    """The denoiser's inputs for one step after the other, endless."""
    tensors = client.get_model_metadata(DENOISER, model_version=str(layout.release())).inputs
    rng = np.random.default_rng(seed)
    while True:
        rows = int(rng.integers(1, MOST_ROWS + 1))
        yield [_input(tensor, rows, rng) for tensor in tensors]


def _input(tensor: Any, rows: int, rng: np.random.Generator) -> triton.InferInput:
    shape, dtype = [rows, *tensor.shape[1:]], triton_to_np_dtype(tensor.datatype)
    drawn = rng.standard_normal(shape) if np.issubdtype(dtype, np.floating) else rng.integers(0, 1000, shape)
    given = triton.InferInput(tensor.name, shape, tensor.datatype)
    given.set_data_from_numpy(drawn.astype(dtype))
    return given


def play(cluster: Cluster, steps: int = STEPS) -> Held:
    """So many denoising steps, and what the models held meanwhile."""
    layout, held = cluster.layout, Held()
    with client_of(layout) as client:
        threads = max(
            1, len(model_processes.processes(layout.shared_memory).get((DENOISER, int(layout.release())), ()))
        )
        drawn = [batches(layout, client, seed) for seed in range(threads)]

        def step(thread: int, times: int) -> None:
            for _ in range(times):
                client.infer(DENOISER, next(drawn[thread]), model_version=str(layout.release()))

        with ThreadPoolExecutor(threads) as pool, tqdm(total=steps, unit="step") as bar:
            while bar.n < steps:
                shares = [EVERY // threads + (thread < EVERY % threads) for thread in range(threads)]
                list(pool.map(step, range(threads), shares))
                bar.update(EVERY)
                held.note(bar.n, held_now(cluster))
    return held


def report(held: Held) -> bool:
    """Writes the numbers and the picture; says what grew, and whether that is allowed."""
    OUT.mkdir(parents=True, exist_ok=True)
    growth = held.growth()
    (OUT / "model-memory.json").write_text(json.dumps(asdict(held) | {"growth": growth}, indent=1) + "\n")
    draw(held, OUT / "model-memory.png")
    first = next(place for place, steps in enumerate(held.steps) if steps > WARM_UP)
    for name, values in sorted(held.own_mib.items()):
        print(f"{name:<16} {values[first]:8.1f} MiB after {held.steps[first]} steps, {values[-1]:8.1f} at the end")
    kept = growth <= MOST_GROWTH
    print(f"memory of the models over {held.steps[-1]} steps: × {growth:.4f}, {'as' if kept else 'NOT as'} allowed")
    return kept


def draw(held: Held, path: Path) -> None:
    """All together and the denoiser's, over the steps."""
    import matplotlib  # takes a second to load; --help needs none

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axis = plt.subplots(figsize=(9, 4), constrained_layout=True)
    axis.plot(held.steps, held.total(), label="all models and the server", linewidth=1)
    axis.plot(held.steps, held.own_mib[DENOISER], label="the denoiser's processes", linewidth=1)
    axis.set(xlabel=f"denoising steps of 1 to {MOST_ROWS} rows", ylabel="memory without libraries, MiB", ylim=(0, None))
    axis.axvline(WARM_UP, color="grey", linestyle=":", linewidth=1)
    axis.legend()
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=STEPS, help="(default: %(default)s)")
    parser.add_argument("--port-offset", type=int, default=650, help="(default: %(default)s)")
    parser.add_argument("--repository", type=Path, default=ROOT / "model_repository", help="(default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.steps < LEAST_STEPS:
        parser.error(f"--steps must be at least {LEAST_STEPS}, not {arguments.steps}: {WARM_UP} warm up")
    cluster = Cluster(Layout("model-memory", arguments.port_offset, arguments.repository.resolve()), say=print)
    try:
        cluster.up(["triton"])
        held = play(cluster, arguments.steps)
    except ClusterError as error:
        print(f"not measured: {error}", file=sys.stderr)
        return 1
    finally:
        cluster.down()
    return 0 if report(held) else 1


if __name__ == "__main__":
    sys.exit(main())
