"""What a generator is worth to merchants of the simulated market, by the truth alone.

    python -m lab.generation.evaluate --served model_repository        its newest release, with wishes
    python -m lab.generation.evaluate --no-wishes --adapter RUN/group/adapter --unet RUN/dpo/unet
    python -m lab.generation.evaluate --sampler ddim --steps 20 --split seen --size 100 20 5 15 64

What is tried and the plain U-Net draw the prompts of merchants that no table reports (`--split`: or those of the
generation table) from the same noise; the judge reads what both show, and the true utility follows. Merchants come in
pairs that share their prompts: what was drawn for one is shown to the other, too. Prints, with 95 % intervals over
pairs of merchants, the true utility, the best in a group, prompt accuracy, diversity, what a picture is worth to the
other merchant, the share of picture pairs won, and the taste captured: (utility − plain) / (best of 64 plain pictures
chosen by the truth − plain). Minutes. Reward models are not asked (`python -m lab.generation.table` does).
"""

import argparse
import sys
from pathlib import Path

from contract.limits import SAMPLERS
from training.common.commands import attempt, parser_of
from training.common.places import TINY


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--weights", type=Path, default=TINY, help="the family (default: %(default)s)")
    parser.add_argument("--preferences", type=Path, help="preference weights (default: the family's)")
    parser.add_argument("--no-wishes", action="store_true", help="add no wishes")
    parser.add_argument("--served", type=Path, metavar="REPOSITORY", help="draw with its newest release, by ONNX")
    parser.add_argument("--adapter", type=Path, help="adapter directory; without it the U-Net itself is tried")
    parser.add_argument("--unet", type=Path, help="diffusers directory below it (default: the family's backbone)")
    parser.add_argument("--against", type=Path, help="the plain U-Net (default: the tried one, unless distilled)")
    parser.add_argument("--split", choices=["validation", "seen", "unseen"], default="validation")
    parser.add_argument("--sampler", choices=SAMPLERS, help="(default: the family's)")
    parser.add_argument("--steps", type=int, help="of it (default: the family's)")
    parser.add_argument("--adapter-scale", type=float, help="weight of wishes (default: the family's)")
    parser.add_argument(
        "--size", nargs=5, type=int, default=(40, 8, 5, 15, 64), metavar=("MERCHANTS", "PROMPTS", "K", "POOL", "BEST"),
        help="merchants, prompts of each, candidates, prompts of each category, plain pictures to choose the best of "
        "(default: 40 8 5 15 64; the generation table has 100 20 5 15 64)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()

    from lab.generation.evaluation import run  # torch takes seconds to load

    return attempt(lambda: run(arguments), "cannot evaluate")


if __name__ == "__main__":
    sys.exit(main())
