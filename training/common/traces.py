"""Spans of a command, by the variables that say it to the services too (docs/serving.md).

Knows the variables; what a span is, is in contract.tracing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from contract.errors import InputError
from contract.hosts import is_loopback
from contract.spans import FILES, SHARE, TO, Recording, exporter_to
from contract.tracing import DEFAULT_SHARE


@contextmanager
def recorded(command: str) -> Iterator[None]:
    """Records what the command does; nothing unless the variable says where spans go.

    Raises:
        InputError: a variable is wrong.
    """
    if (to := os.environ.get(TO)) is None:
        yield
        return
    recording = Recording(command, exporter_to(_checked(to), command), _share())
    try:
        yield
    finally:
        recording.close()


def _checked(to: str) -> str:
    parts = urlsplit(to)
    if to.startswith(FILES) and len(to) > len(FILES):
        return to
    if parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or "")):
        return to
    raise InputError(f"{TO} must be https://HOST:PORT, http:// of this machine or file://FOLDER, not {to!r}")


def _share() -> float:
    given = os.environ.get(SHARE, str(DEFAULT_SHARE))
    try:
        share = float(given)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise InputError(f"{SHARE} must be above 0 and at most 1, not {given!r}")
    return share
