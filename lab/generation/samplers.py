"""Which sampler with how many steps the release needs: the cheapest that is not worse to merchants, by the truth.

    python -m lab.generation.samplers                    what the default is chosen from; about an hour on two cores
    python -m lab.generation.samplers --how ddim:20 dpmsolver++2m:4 --size 10 4 2
    python -m lab.generation.samplers --how dpmsolver++2m:6@1 ddim:4@2 --split validation     release 2 beside 1

The newest release, or the one named behind @, draws the prompts of merchants with their wishes, once in every way, from
the same noise. The first way is the reference: of each other one the report has the true utility, what it lacks to the
reference, with 95 % intervals over pairs of merchants, prompt accuracy, what pictures are worth to the other merchant
of a pair, and the CPU time of the denoiser's calls a picture, in rounds of five, the ways in turns. Finished ways are
kept under --work and not drawn again.
"""

import argparse
import sys
from pathlib import Path

from contract.limits import SAMPLERS
from training.common.commands import attempt, parser_of

SPLITS = ("seen", "unseen", "validation")
WAYS = ("ddim:20", "dpmsolver++2m:6", "dpmsolver++2m:4", "dpmsolver++2m:8")


def way(text: str) -> tuple[str, int, int | None]:
    """A sampler, its number of steps, and the release that draws, from SAMPLER:STEPS[@RELEASE]."""
    sampler, _, rest = text.partition(":")
    steps, at, release = rest.partition("@")
    if sampler not in SAMPLERS or not all(n.isdigit() and int(n) for n in ([steps, release] if at else [steps])):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not SAMPLER:STEPS[@RELEASE], with a sampler of {', '.join(SAMPLERS)}"
        )
    return sampler, int(steps), int(release) if at else None


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument(
        "--how", nargs="+", type=way, metavar="SAMPLER:STEPS[@RELEASE]", help=f"(default: {' '.join(WAYS)})"
    )
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="(default: %(default)s)")
    parser.add_argument("--split", choices=SPLITS, default="seen", help="the merchants (default: %(default)s)")
    parser.add_argument("--size", nargs=3, type=int, default=(100, 20, 5), metavar=("MERCHANTS", "PROMPTS", "K"))
    parser.add_argument("--work", type=Path, default=Path("build/eval/samplers"), help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("build/eval/samplers.json"), help="(default: %(default)s)")
    arguments = parser.parse_args()
    arguments.how = arguments.how or [way(text) for text in WAYS]

    from lab.generation.comparison import run  # torch takes seconds to load

    return attempt(lambda: run(arguments), "cannot compare")


if __name__ == "__main__":
    sys.exit(main())
