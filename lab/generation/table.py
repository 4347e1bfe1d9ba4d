"""The paper's generation table (Table 3, Fig. 6) on the simulated market, where the truth is known.

    python -m lab.generation.table               every method, three seeds, every split; many hours on two cores
    python -m lab.generation.table --report      the tables and pictures of what is finished
    python -m lab.generation.table --methods dpo perfusion --seeds 0 --splits seen

A method is a chain of trainings (lab.generation.methods); chains share their beginnings. Every training and every
(split, method, seed) that is drawn is a process of its own under --work: a finished one is never computed again, an
interrupted training resumes where it stopped. The reward models are those of the preference table
(`python -m lab.preference.table`), seed 0; missing ones are trained first.

    ../generation.json  every metric of the pictures, with 95 % intervals, and the best of 64 DPO pictures
    contact_sheet.png   merchants × methods, one prompt each, from one noise
    *.png               the metrics as pictures
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from lab.generation.names import DRAWN, METHODS, SEEDS, WORK
from training.common.commands import attempt, parser_of
from training.common.places import TINY


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--work", type=Path, default=WORK, help="data, runs and report (default: %(default)s)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, help="rows (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS, help="(default: three)")
    parser.add_argument(
        "--splits", nargs="+", choices=[*DRAWN, "validation"], default=DRAWN, help="(default: %(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="at once (default: %(default)s)")
    parser.add_argument("--report", action="store_true", help="no training or drawing: the report of what is finished")
    parser.add_argument("--size", nargs=5, type=int, default=(100, 20, 5, 15, 64), help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--train", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--draw", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if min(arguments.seeds) < 0 or arguments.jobs < 1:
        parser.error("seeds begin at 0, and at least one job has to run")
    return arguments


def run(arguments: argparse.Namespace) -> None:
    """The command: one cell, or everything."""
    import torch  # takes seconds to load

    from lab.generation.cells import Bench, draw, run_all
    from lab.generation.methods import train_last
    from lab.generation.report import report, table
    from lab.generation.splits import Size
    from training.models.family import FamilyPaths, hush_libraries

    hush_libraries()
    bench = Bench(arguments.work, FamilyPaths.under(TINY), Size(*arguments.size))
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    if arguments.train:
        where = (bench.family, bench.runs, arguments.seeds[0], bench.base)
        train_last(tuple(arguments.train), bench.groups, *where)
    elif arguments.draw:
        draw(bench, *arguments.draw, arguments.seeds[0])
    else:
        if not arguments.report:
            bench.make_ready()
            run_all(bench, arguments.methods, arguments.seeds, arguments.splits, arguments.jobs)
        print(table(report(bench.work, bench.size)))


def main() -> int:
    return attempt(partial(run, parse_arguments()), "stopped")


if __name__ == "__main__":
    sys.exit(main())
