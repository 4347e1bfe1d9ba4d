"""Runs the user embedding service: wiring only.

python -m services.user_embedding
"""

import asyncio
from datetime import UTC, datetime
from functools import partial

from perfusion.v1.user_embedding_service_pb2_grpc import add_UserEmbeddingServiceServicer_to_server
from prometheus_client import CollectorRegistry

from services.runtime import logs
from services.runtime.database import Database
from services.runtime.health import Dependency
from services.runtime.release import Releases
from services.runtime.server import Server
from services.runtime.triton import Models, TritonModels
from services.user_embedding.embeddings import Embeddings
from services.user_embedding.encoder import MODEL, TritonUserEncoder
from services.user_embedding.servicer import UserEmbeddingServicer
from services.user_embedding.settings import Settings
from services.user_embedding.store import METADATA, ProfileStore


def build(settings: Settings, models: Models) -> Server:
    """The service, not yet started."""
    database = Database(settings.database_url, METADATA, timeout_s=settings.database_timeout_s)
    releases = Releases(settings.model_repository)
    encoder = TritonUserEncoder(models, settings.triton_max_batch)
    servicer = UserEmbeddingServicer(
        ProfileStore(database),
        releases,
        Embeddings(encoder, settings.remembered_embeddings),
        partial(datetime.now, UTC),
    )

    async def encoder_computes() -> None:
        await models.check([MODEL], releases.current().number)

    return Server(
        settings,
        service="perfusion.v1.UserEmbeddingService",
        register=partial(add_UserEmbeddingServiceServicer_to_server, servicer),
        dependencies=[Dependency("database", database.check), Dependency("triton", encoder_computes)],
        registry=CollectorRegistry(),
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
