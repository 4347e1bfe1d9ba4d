"""A release of Stable Diffusion 1.5's size through the local Triton and the generation service.

    python -m deploy.benchmarks.full_size_serving          after lab.benchmarks.full_size_generator

Starts a cluster of its own on that command's repository, with timeouts long enough for a CPU, plays one round of one
picture with few denoising steps over the public API, and stops it. Writes
build/bench/full_size_serving.json: seconds to load the models, of each denoising step after the first and of the round,
and the largest memory of Triton's processes.
"""

import argparse
import json
import sys
import time
import uuid
from pathlib import Path

import grpc
from perfusion.v1.generation_service_pb2 import GenerateRequest

from deploy.demo.playing import put_profile
from deploy.local.clients import connect
from deploy.local.cluster import Cluster, ClusterError
from deploy.local.layout import ROOT, Layout
from lab.market.merchants import case_study

PATIENCE_S = 900.0  # for one inference or one loading on a CPU
PROMPT = "dress,v-neck,slim-fit,long sleeves"


def measure(cluster: Cluster, steps: int) -> dict[str, object]:
    """Loads the models and plays the round."""
    began = time.perf_counter()
    cluster.up()
    loaded = time.perf_counter()
    merchant, _ = case_study()
    ends: list[float] = []
    with connect(cluster.layout) as clients:
        put_profile(clients, merchant)
        asked = GenerateRequest(
            request_id=str(uuid.uuid4()), user_id=merchant.user_id, prompt=PROMPT,
            num_candidates=1, seed=0, num_steps=steps,
        )  # fmt: skip
        for event in clients.generation.Generate(asked, timeout=PATIENCE_S * (steps + 2)):
            if event.WhichOneof("event") == "progress":
                ends.append(time.perf_counter())
        (candidate,) = event.group.candidates
    triton = cluster.process("triton").pid
    return {
        "load_s": round(loaded - began, 1),
        "round_s": round(time.perf_counter() - loaded, 1),
        "step_s": [round(b - a, 1) for a, b in zip(ends, ends[1:], strict=False)],
        "steps": steps,
        "picture_bytes": len(candidate.png),
        "triton_peak_gib": round(sum(_peak_kib(pid) for pid in _family(triton)) / 2**20, 2) if triton else None,
    }


def _family(pid: int) -> list[int]:
    """A process and those it started."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    return [pid, *(n for path in children for child in path.read_text().split() for n in _family(int(child)))]


def _peak_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM")), 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, default=ROOT / "build" / "bench" / "sd15" / "model_repository")
    parser.add_argument("--steps", type=int, default=3, help="denoising steps (default: %(default)s)")
    parser.add_argument("--port-offset", type=int, default=500, help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("build/bench/full_size_serving.json"))
    arguments = parser.parse_args()
    cluster = Cluster(Layout("bench", arguments.port_offset, arguments.repository.resolve(), PATIENCE_S), say=print)
    try:
        found = measure(cluster, arguments.steps)
    except (ClusterError, RuntimeError, grpc.RpcError) as error:
        print(f"not served: {error}", file=sys.stderr)
        return 1
    finally:
        cluster.down()
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
