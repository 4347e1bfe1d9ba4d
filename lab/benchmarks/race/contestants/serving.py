"""What the three servers have in common: the loop around the runtime that the runner names, and the body of an answer.

The runner says by RACE_ environment variables where the models are and at which port to listen.
"""

import base64
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lab.benchmarks.race.contestants.loop import Loop
from lab.benchmarks.race.contestants.runtimes import RUNTIMES
from lab.benchmarks.race.job import Round

HOST, PORT = "127.0.0.1", int(os.environ.get("RACE_PORT", "0"))
REPLICAS = 2  # one thread each
AT_ONCE = 2  # rounds in a batch: a row costs hardly less in a larger one, and the other replica waits
WAIT_S = 0.005  # for a second round


def loop() -> Loop:
    """Of this replica."""
    environment = os.environ
    runtime, repository = RUNTIMES[environment["RACE_RUNTIME"]], Path(environment["RACE_REPOSITORY"])
    return Loop(runtime, repository, int(environment["RACE_RELEASE"]), AT_ONCE)


def asked(body: Mapping[str, Any]) -> Round:
    """The round of a request."""
    return Round(body["prompt"], tuple(body["seeds"]))


def answer(pngs: Sequence[bytes]) -> dict[str, list[str]]:
    """The body of its answer."""
    return {"pngs": [base64.b64encode(png).decode() for png in pngs]}
