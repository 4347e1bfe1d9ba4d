"""Runs the user embedding service: wiring only.

python -m services.user_embedding
"""

import asyncio
from functools import partial

from perfusion.v1.user_embedding_service_pb2_grpc import add_UserEmbeddingServiceServicer_to_server
from prometheus_client import CollectorRegistry

from services.runtime import logs
from services.runtime.clock import now_us
from services.runtime.database import Database
from services.runtime.health import Dependency
from services.runtime.release import Releases
from services.runtime.server import Server
from services.runtime.triton import Models, TritonModels
from services.user_embedding.adapters.encoder import MODEL, TritonUserEncoder
from services.user_embedding.adapters.profiles import METADATA, SqlProfiles
from services.user_embedding.embeddings import Embeddings
from services.user_embedding.metrics import ProfileMetrics
from services.user_embedding.servicer import UserEmbeddingServicer
from services.user_embedding.settings import Settings
from services.user_embedding.users import Users


def build(settings: Settings, models: Models) -> Server:
    """The service, not yet started."""
    registry, releases = CollectorRegistry(), Releases(settings.model_repository)
    database = Database(settings.database_url, METADATA, timeout_s=settings.database_timeout_s)
    users = Users(
        profiles=SqlProfiles(database),
        embeddings=Embeddings(TritonUserEncoder(models, settings.triton_max_batch), settings.remembered_embeddings),
        metrics=ProfileMetrics(registry),
        clock=now_us,
    )
    servicer = UserEmbeddingServicer(users, releases)

    async def encoder_computes() -> None:
        await models.check([MODEL], releases.current().number)

    return Server(
        settings,
        service="perfusion.v1.UserEmbeddingService",
        register=partial(add_UserEmbeddingServiceServicer_to_server, servicer),
        dependencies=[Dependency("database", database.check), Dependency("triton", encoder_computes)],
        registry=registry,
        closers=[models.close, database.close],
    )


async def _serve(settings: Settings) -> None:
    models = TritonModels(
        settings.triton_address, timeout_s=settings.triton_timeout_s, max_message_bytes=settings.max_message_bytes
    )
    await build(settings, models).run()


if __name__ == "__main__":
    _settings = Settings()
    logs.configure("user_embedding", _settings.log_level)
    asyncio.run(_serve(_settings))
