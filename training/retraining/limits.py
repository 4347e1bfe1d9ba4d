"""Numbers that a gate decides by: each with its meaning, which is also the help of its option.

Knows dataclasses and argparse; no gate.
"""

import argparse
from collections.abc import Callable
from dataclasses import field, fields
from typing import Any, TypeVar

T = TypeVar("T")


def limit(default: T, meaning: str) -> T:
    """A field of a dataclass of limits."""
    return field(default=default, metadata={"meaning": meaning})


def add_limits(parser: argparse.ArgumentParser, kind: type[Any]) -> None:
    """An option for each limit."""
    for each in fields(kind):
        option, meaning = f"--{each.name.replace('_', '-')}", each.metadata["meaning"].replace("%", "%%")
        parser.add_argument(
            option, type=type(each.default), default=each.default, metavar="X", help=f"{meaning} (default: %(default)s)"
        )


def limits_of(arguments: argparse.Namespace, kind: Callable[..., T]) -> T:
    """The limits that a command line gives."""
    return kind(**{each.name: getattr(arguments, each.name) for each in fields(kind)})  # type: ignore[arg-type]
