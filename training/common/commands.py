"""What every command does alike: options from a recipe's fields, and a refusal in one line.

Loads no torch, so that --help and wrong arguments answer at once. Knows argparse and errors; no training.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from contract.errors import InputError
from training.common.errors import Diverged
from training.common.places import TINY
from training.common.recipes import Recipe


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """A parser that shows a module's docstring as it is written."""
    return argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)


def add_training_options(parser: argparse.ArgumentParser, data: str, weights: str) -> None:
    """--data, --out and --weights; `data` and `weights` say what is needed of them."""
    parser.add_argument("--data", type=Path, required=True, help=data)
    parser.add_argument("--out", type=Path, required=True, help="where the run is kept; the same again resumes")
    parser.add_argument("--weights", type=Path, default=TINY, help=f"{weights} (default: %(default)s)")


def add_changes(parser: argparse.ArgumentParser, recipe: type[Recipe], names: Iterable[str]) -> None:
    """An option for each of these fields, in place of the recipe's own value."""
    for name in names:
        kind = recipe.__dataclass_fields__[name].type  # type: ignore[attr-defined]
        parser.add_argument(f"--{name.replace('_', '-')}", type=kind, help="instead of the recipe's")


def changes(arguments: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """The fields that the command line changes."""
    given = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in given.items() if value is not None}


def attempt(work: Callable[[], None], failure: str) -> int:
    """Does the work; a refusal becomes one line on stderr that begins with `failure`, and the exit status 1."""
    try:
        work()
    except (InputError, Diverged, OSError) as error:
        print(f"{failure}: {error}", file=sys.stderr)
        return 1
    return 0
