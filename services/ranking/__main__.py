"""Runs the ranking service: wiring only.

python -m services.ranking
"""

from functools import partial

from perfusion.v1.ranking_service_pb2_grpc import add_RankingServiceServicer_to_server
from prometheus_client import CollectorRegistry

from services.ranking.adapters.reward import MODELS, TritonRewardModel
from services.ranking.adapters.users import GrpcUsers
from services.ranking.ports import Users
from services.ranking.ranker import Ranker
from services.ranking.servicer import RankingServicer
from services.ranking.settings import Settings
from services.runtime import process
from services.runtime.clients import open_channel
from services.runtime.health import Dependency
from services.runtime.identity import identity_of
from services.runtime.images import Decoder, ImageLimits
from services.runtime.release import Releases
from services.runtime.server import Server
from services.runtime.triton import Models, TritonModels


def build(settings: Settings, models: Models, users: Users) -> Server:
    """The service, not yet started."""
    releases = Releases(settings.model_repository)
    ranker = Ranker(users, TritonRewardModel(models, settings.max_batch))
    decoder = Decoder(ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels))
    servicer = RankingServicer(ranker, releases, decoder)

    async def towers_compute() -> None:
        await models.check(MODELS, releases.current().number)

    triton = Dependency("triton", towers_compute)
    vectors = Dependency("user embedding service", users.check)
    return Server(
        settings,
        service="perfusion.v1.RankingService",
        register=partial(add_RankingServiceServicer_to_server, servicer),
        needs={"Rank": [triton, vectors]},
        registry=CollectorRegistry(),
        closers=[models.close, decoder.close],
    )


async def _serve(settings: Settings) -> None:
    certificates = identity_of(settings).certificates
    size = settings.max_message_bytes
    models = TritonModels(
        settings.triton_address,
        timeout_s=settings.triton_timeout_s,
        max_message_bytes=size,
        certificates=certificates,
    )
    async with open_channel(
        settings.user_embedding_address, max_message_bytes=size, certificates=certificates
    ) as channel:
        await build(settings, models, GrpcUsers(channel, timeout_s=settings.service_timeout_s)).run()


if __name__ == "__main__":
    process.run("ranking", Settings, _serve)
