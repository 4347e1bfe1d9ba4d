"""PerFusion at Stable Diffusion 1.5's real size: random weights, one training step, and the export of a release.

    python -m lab.benchmarks.full_size_generator          needs 18 GiB of memory and 9 of disk

Writes a family under --work: a diffusers pipeline of the published configuration (860 M parameters in the U-Net, 123 M
in the text encoder, 84 M in the VAE), an untrained adapter on it, and the tiny reward model, which reads pictures of
any size. Takes one step of the group-level objective on a group of five 64×64 latents with gradient checkpointing and
bfloat16 autocast, writes the contract of these sizes and exports the release (ONNX with external data, checked
against torch). `python -m deploy.benchmarks.full_size_serving` then serves it. Every part is a process of its own, so
that the reported memory is its own; a finished part is skipped. Writes build/bench/full_size_generator.json.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from training.common.commands import parser_of
from training.common.reports import write_report

WORK = Path("build/bench/sd15")
PARTS = ("build", "train_step", "export")


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--work", type=Path, default=WORK, help="family and release (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("build/bench/full_size_generator.json"))
    parser.add_argument("--small", action="store_true", help="a tenth of the width: to try the target itself")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.part:
        from lab.benchmarks.full_size_pipeline import run_part  # torch takes seconds to load

        run_part(arguments.part, arguments.work, arguments.small)
        return 0
    small = ["--small"] if arguments.small else []
    for part in PARTS:
        if not (arguments.work / f"{part}.json").exists():
            print(f"{part} …", flush=True)
            command = [sys.executable, "-m", "lab.benchmarks.full_size_generator", "--work", str(arguments.work)]
            if subprocess.run([*command, *small, "--part", part], check=False).returncode:
                print(f"{part} failed", file=sys.stderr)
                return 1
        print(f"{part}: {(arguments.work / f'{part}.json').read_text()}", flush=True)
    found = {part: json.loads((arguments.work / f"{part}.json").read_text()) for part in PARTS}
    write_report(arguments.out, found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
