"""BentoML with adaptive batching: two workers, JSON over HTTP.

bentoml serve lab.benchmarks.race.contestants.bentoml_server:Rounds --host HOST --port PORT
"""

from typing import Any

import bentoml

from lab.benchmarks.race.contestants import serving


@bentoml.service(workers=serving.REPLICAS, traffic={"timeout": 120}, metrics={"enabled": False})
class Rounds:
    """POST /draw draws a list of rounds, one from each client."""

    def __init__(self) -> None:
        self.loop = serving.loop()

    @bentoml.api(batchable=True, max_batch_size=serving.AT_ONCE, max_latency_ms=120_000)
    def draw(self, rounds: list[dict[str, Any]]) -> list[dict[str, list[str]]]:
        """What is batched is the list."""
        return [serving.answer(pngs) for pngs in self.loop.draw([serving.asked(one) for one in rounds])]
