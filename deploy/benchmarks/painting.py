"""The generation service's part that draws, alone: a contestant of the race (lab.benchmarks.race), which starts it.

    python -m deploy.benchmarks.painting --name NAME --port-offset N --model-repository DIR --release R

Text states, the denoising loop with the scheduler of steps, the decoder and PNG, on the models of a running local
cluster's Triton: all that diffusers' pipeline does, and nothing else that a round has. No merchant, no wishes, no
ranking, no SQL, no Kafka. Speaks with the runner as lab.benchmarks.race.contestants.worker says.
"""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from prometheus_client import CollectorRegistry

from contract.release import Release, read_release, release_dir
from deploy.local import triton_server
from deploy.local.authority import Authority
from deploy.local.layout import Layout
from deploy.local.parts import ROWS_ON_CORES
from deploy.local.triton_server import DENOISER
from lab.benchmarks.race.contestants.worker import work
from lab.benchmarks.race.job import GUIDANCE, NEGATIVE_PROMPT, STEPS, Round
from services.generation.metrics import GenerationMetrics
from services.generation.orders import Order, Settings, User
from services.generation.painting import Painted, Painter
from services.generation.settings import Settings as ServiceSettings
from services.generation.stepping import Denoiser
from services.runtime.certificates import Certificates
from services.runtime.tokens import Tokenizers
from services.runtime.triton import TritonModels


class Painting:
    """A painter and the denoiser that its rounds share. Made inside a running event loop."""

    def __init__(self, layout: Layout, release: Release) -> None:
        settings = ServiceSettings()
        self._release = release
        models = TritonModels(
            layout.address("triton_grpc"),
            timeout_s=60.0,
            max_message_bytes=settings.max_message_bytes,
            certificates=Certificates(Authority(layout.home).folder(triton_server.CONTROLLER)),
        )
        metrics = GenerationMetrics(CollectorRegistry())
        instances = triton_server.configuration(layout.model_repository, DENOISER).instance_group
        self._denoiser = Denoiser(
            models,
            metrics,
            calls=sum(group.count for group in instances),
            least_rows=1,
            most_rows=ROWS_ON_CORES,
            quantum=settings.denoiser_turn,
            limit=settings.max_concurrent_rounds,
        )
        self._painter = Painter(models, Tokenizers(), metrics)
        widths = release.sizes
        nobodys = np.zeros(widths.reward_user_width, np.float32)
        generator, favours = np.zeros(widths.generator_user_width, np.float32), np.zeros(widths.phrases, np.float32)
        self._user = User({}, nobodys, nobodys, generator, favours)

    async def draw(self, rounds: Sequence[Round]) -> list[tuple[bytes, ...]]:
        """The PNGs of rounds that run side by side, each of another merchant."""
        return list(await asyncio.gather(*(self._round(f"merchant-{k}", one) for k, one in enumerate(rounds))))

    async def _round(self, merchant: str, one: Round) -> tuple[bytes, ...]:
        how = Settings(
            num_steps=STEPS, guidance_scale=GUIDANCE, adapter_scale=0.0, sampler="dpmsolver++2m", seed=one.seeds[0],
            strength=None, reference_image_sha256="", refused_wishes=(), variety=None,
        )  # fmt: skip
        order = Order("", "", merchant, one.prompt, NEGATIVE_PROMPT, len(one.seeds), how, None, 0, False)
        async with self._denoiser.round(merchant, len(one.seeds), STEPS) as turn:
            async for event in self._painter.paint(order, one.seeds, self._user, self._release, turn):
                if isinstance(event, Painted):
                    return event.pngs
        raise RuntimeError("a round ended without pictures")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="of the cluster")
    parser.add_argument("--port-offset", type=int, required=True, help="of its ports")
    parser.add_argument("--model-repository", type=Path, required=True, help="that its Triton serves from")
    parser.add_argument("--release", type=int, required=True, help="loaded there")
    options = parser.parse_args()
    layout = Layout(options.name, options.port_offset, options.model_repository.resolve())
    release = read_release(release_dir(layout.model_repository, options.release))

    async def make() -> Painting:
        return Painting(layout, release)

    with asyncio.Runner() as runner:
        painting: Any = runner.run(make())
        work(lambda rounds: runner.run(painting.draw(rounds)), {"release": options.release})


if __name__ == "__main__":
    main()
