"""Erases a merchant from the loop's tables, whatever version of them is read.

    python -m training.retraining.erase --lake LAKE --user ID

Rows in LAKE/events, LAKE/groups and LAKE/shop go, and the files of older versions that hold any; what Kafka still has
of the merchant is dropped when it is collected. LAKE/erasures keeps who was erased, as a salted hash, when, and what
was removed. A collecting process may run on. Versions of a table from before the merchant's first row stay readable; a
later one is gone, and a training that reads it stops. Prepared tables with the merchant (`--prepared`) are removed.

The services' databases and pictures are erased by `python -m services.erasure`; Kafka's topics forget with time
(contract.topics). A model that was trained with the merchant's picks keeps what it learnt until the next retraining.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from training.common.commands import attempt, parser_of
from training.common.places import CACHE


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--lake", required=True, help="the folder, or s3://…, of the tables")
    parser.add_argument("--user", required=True, action="append", metavar="ID", help="the merchant; may be given again")
    prepared = "where trainings keep prepared tables (default: %(default)s)"
    parser.add_argument("--prepared", type=Path, default=CACHE, help=prepared)
    return parser.parse_args()


def run(arguments: argparse.Namespace) -> None:
    """Loads the libraries of tables, then erases one merchant after the other."""
    from training.retraining.erasing import erase  # deltalake and pyarrow take a second
    from training.retraining.lake import Lake

    for user_id in arguments.user:
        done = erase(Lake(arguments.lake), user_id, arguments.prepared)
        print(
            "{events} events, {groups} groups and {shop} events of the shop erased, ".format_map(done)
            + "{files} files of older versions removed, {prepared} prepared tables; ".format_map(done)
            + "{rows_left} rows are left".format_map(done)
        )


def main() -> int:
    return attempt(partial(run, parse_arguments()), "not erased")


if __name__ == "__main__":
    sys.exit(main())
