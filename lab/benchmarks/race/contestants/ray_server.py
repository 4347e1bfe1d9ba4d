"""Ray Serve with @serve.batch: two replicas of one CPU, JSON over HTTP.

python -m lab.benchmarks.race.contestants.ray_server
"""

import threading
from typing import Any

import ray
from ray import serve

from lab.benchmarks.race.contestants import serving


@serve.deployment(
    num_replicas=serving.REPLICAS, ray_actor_options={"num_cpus": 1}, max_ongoing_requests=2 * serving.AT_ONCE
)
class Rounds:
    """POST / draws a round."""

    def __init__(self) -> None:
        self.loop = serving.loop()

    @serve.batch(max_batch_size=serving.AT_ONCE, batch_wait_timeout_s=serving.WAIT_S)
    async def draw(self, rounds: list[dict[str, Any]]) -> list[dict[str, list[str]]]:
        return [serving.answer(pngs) for pngs in self.loop.draw([serving.asked(one) for one in rounds])]

    async def __call__(self, request: Any) -> dict[str, list[str]]:
        answer: dict[str, list[str]] = await self.draw(await request.json())
        return answer


if __name__ == "__main__":
    ray.init(
        num_cpus=serving.REPLICAS, include_dashboard=False, object_store_memory=100 * 2**20, log_to_driver=False,
        _temp_dir="/tmp/race-ray",
    )  # fmt: skip
    serve.start(http_options={"host": serving.HOST, "port": serving.PORT})
    serve.run(Rounds.bind())
    threading.Event().wait()
