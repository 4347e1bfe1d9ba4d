"""Which sampler with how many steps the release needs: the cheapest that is not worse to merchants, by the truth.

    python -m lab.generation.samplers                    what the default is chosen from; about an hour on two cores
    python -m lab.generation.samplers --how ddim:20 dpmsolver++2m:4 --size 10 4 2

The newest release draws the prompts of trained merchants with their wishes, once in every way, from the same noise.
The first way is the reference: of each other one the report has the true utility, what it lacks to the reference, with
95 % intervals over pairs of merchants, and prompt accuracy. Finished ways are kept under --work and not drawn again.
"""

import argparse
import sys
from pathlib import Path

from contract.limits import SAMPLERS
from training.common.commands import attempt, parser_of

WAYS = ("ddim:20", "dpmsolver++2m:6", "dpmsolver++2m:4", "dpmsolver++2m:8")


def way(text: str) -> tuple[str, int]:
    """A sampler and its number of steps, from SAMPLER:STEPS."""
    sampler, _, steps = text.partition(":")
    if sampler not in SAMPLERS or not steps.isdigit() or not int(steps):
        raise argparse.ArgumentTypeError(f"{text!r} is not SAMPLER:STEPS, with a sampler of {', '.join(SAMPLERS)}")
    return sampler, int(steps)


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--how", nargs="+", type=way, metavar="SAMPLER:STEPS", help=f"(default: {' '.join(WAYS)})")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="(default: %(default)s)")
    parser.add_argument("--size", nargs=3, type=int, default=(100, 20, 5), metavar=("MERCHANTS", "PROMPTS", "K"))
    parser.add_argument("--work", type=Path, default=Path("build/eval/samplers"), help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("build/eval/samplers.json"), help="(default: %(default)s)")
    arguments = parser.parse_args()
    arguments.how = arguments.how or [way(text) for text in WAYS]

    from lab.generation.comparison import run  # torch takes seconds to load

    return attempt(lambda: run(arguments), "cannot compare")


if __name__ == "__main__":
    sys.exit(main())
