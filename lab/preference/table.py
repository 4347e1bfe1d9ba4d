"""The paper's preference table (Table 2, Fig. 5) on the simulated market, where the truth is known.

    python -m lab.preference.table                          every model, five seeds; hours on two cores
    python -m lab.preference.table --report                 the tables of what is finished
    python -m lab.preference.table --models perfusion_rm pickscore --seeds 0 1

Every cell (set, model, seed) is a training of its own under --work, with its scores of test rounds that no training
uses; a finished cell is never computed again, an interrupted one resumes where it stopped. Two cells run side by side,
one core each. The report is made from the scores:

    ../reward.json GAUC and MAP of every row with 95 % intervals, ceilings, share of the ceiling, learning curve
    *.png          the same as pictures

The interval of a row resamples users and, independently, seeds (10,000 draws). Five seeds are few for a bootstrap: the
interval is somewhat too narrow for the variation between trainings, and with one seed it covers the users alone; the
table states the number of seeds.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from lab.preference.sets import SEEDS, TRAINING, WORK
from training.common.commands import attempt, parser_of
from training.common.errors import ModelError
from training.reward.recipes import MODELS


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--work", type=Path, default=WORK, help="data, runs and report (default: %(default)s)")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, help="rows (default: all)")
    parser.add_argument("--seeds", nargs="+", type=int, choices=SEEDS, default=SEEDS, help="(default: all five)")
    parser.add_argument("--sets", nargs="+", choices=TRAINING, default=tuple(TRAINING), help="(default: both)")
    parser.add_argument("--no-curve", action="store_true", help="leave the learning curve out")
    parser.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1), help="cells at once (%(default)s)")
    parser.add_argument("--report", action="store_true", help="no training: the report of what is finished")
    parser.add_argument("--threads", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--cell", nargs=4, help=argparse.SUPPRESS)
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """The command: one cell, or everything."""
    import torch  # takes seconds to load

    from lab.preference.cells import Bench, Cell, cells, run_all, run_cell
    from lab.preference.report import report, table
    from training.models.family import hush_libraries

    hush_libraries()
    bench = Bench(arguments.work)
    if arguments.cell:
        torch.set_num_threads(arguments.threads)
        name, model, seed, groups = arguments.cell
        run_cell(bench, Cell(name, model, int(seed), int(groups) or None))
        return
    if not arguments.report:
        bench.make_ready(arguments.sets)
        wanted = cells(arguments.models, arguments.seeds, arguments.sets, not arguments.no_curve)
        run_all(bench, wanted, arguments.jobs)
    if not any((arguments.work / "runs").glob("*/scores.npz")):
        raise ModelError(f"no finished run under {arguments.work / 'runs'}")
    print(table(report(arguments.work, bench.tests(arguments.sets))))


def main() -> int:
    return attempt(partial(run, parse_arguments()), "stopped")


if __name__ == "__main__":
    sys.exit(main())
