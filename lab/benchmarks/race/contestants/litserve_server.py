"""LitServe with its batching: two workers, JSON over HTTP.

python -m lab.benchmarks.race.contestants.litserve_server
"""

from collections.abc import Sequence
from typing import Any

import litserve

from lab.benchmarks.race.contestants import serving
from lab.benchmarks.race.job import Round


class Rounds(litserve.LitAPI):
    """POST /predict draws a round."""

    def setup(self, device: str) -> None:
        self.loop = serving.loop()

    def decode_request(self, request: dict[str, Any]) -> Round:
        return serving.asked(request)

    def batch(self, inputs: Sequence[Round]) -> list[Round]:
        return list(inputs)

    def predict(self, x: Sequence[Round]) -> list[list[bytes]]:
        return self.loop.draw(x)

    def unbatch(self, output: list[list[bytes]]) -> list[list[bytes]]:
        return output

    def encode_response(self, output: Sequence[bytes]) -> dict[str, list[str]]:
        return serving.answer(output)


if __name__ == "__main__":
    api = Rounds(max_batch_size=serving.AT_ONCE, batch_timeout=serving.WAIT_S)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=serving.REPLICAS, timeout=120)
    server.run(host=serving.HOST, port=serving.PORT, num_api_servers=1, generate_client_file=False, log_level="warning")
