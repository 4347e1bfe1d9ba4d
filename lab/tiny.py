"""Trains the tiny family from scratch, stage by stage, up to a family that can be released.

    python -m lab.tiny                 everything that is not done yet (hours on two cores)
    python -m lab.tiny --until vae     only up to that stage

    tokenizer → judge → vae → diffusion → generator → clip → wishes → reward   then `make export` makes a release

Each stage keeps its checkpoints, log.jsonl and log.png under --work and resumes where it was killed; a finished stage
is skipped. The VAE must pass its gate (the judge reads every attribute kind of reconstructions almost as well as of
drawings) before a U-Net is trained on its latents.
"""

import sys
from pathlib import Path

from training.common.commands import attempt, parser_of
from training.common.places import TINY

STAGES = ("tokenizer", "judge", "vae", "diffusion", "generator", "clip", "wishes", "reward")


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/tiny"), help="checkpoints and logs (%(default)s)")
    parser.add_argument("--out", type=Path, default=TINY, help="where the weights are published (%(default)s)")
    parser.add_argument("--until", choices=STAGES, default=STAGES[-1], help="the last stage to run")
    parser.add_argument("--below-gate", action="store_true", help="use a VAE that misses its gate")
    parser.add_argument(
        "--warm-start", type=Path, metavar="DIR", help="go on from this family's VAE, U-Net and text encoder"
    )
    arguments = parser.parse_args()

    from lab.pretraining.stages import Workshop, run  # torch takes seconds to load
    from training.models.family import FamilyPaths, hush_libraries

    hush_libraries()
    arguments.work.mkdir(parents=True, exist_ok=True)
    start = FamilyPaths.under(arguments.warm_start) if arguments.warm_start else None
    workshop = Workshop(arguments.work, FamilyPaths.under(arguments.out), arguments.out, arguments.below_gate, start)
    stages = STAGES[: STAGES.index(arguments.until) + 1]
    return attempt(lambda: run(workshop, stages), "training stopped")


if __name__ == "__main__":
    sys.exit(main())
