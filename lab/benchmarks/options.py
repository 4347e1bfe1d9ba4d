"""Options of the throughput benchmarks, and reports of all. Knows no torch, so that --help answers at once."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.common.commands import parser_of
from training.common.places import TINY
from training.common.reports import write_report


def parse_arguments(description: str | None, needs: str, groups: int, out: Path) -> argparse.Namespace:
    """weights, groups, rounds and out; `needs` names the parts of the family that are read."""
    parser = parser_of(description)
    parser.add_argument("--weights", type=Path, default=TINY, help=f"family with {needs} (default: %(default)s)")
    parser.add_argument("--groups", type=int, default=groups, help="a batch (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="steps of each way (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=out, help="(default: %(default)s)")
    return parser.parse_args()


def write(found: Mapping[str, Any], out: Path) -> None:
    """Writes the result to a file and prints it."""
    write_report(out, found)
    print(out.read_text(encoding="utf-8"))
