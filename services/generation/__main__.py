"""Runs the generation service: wiring only.

python -m services.generation
"""

import asyncio
from functools import partial

import grpc
from perfusion.v1.generation_service_pb2_grpc import add_GenerationServiceServicer_to_server
from prometheus_client import CollectorRegistry

from services.generation import painting, suggestions
from services.generation.adapters.groups import SqlGroups
from services.generation.adapters.pictures import FsspecPictures
from services.generation.adapters.ranker import GrpcRanker
from services.generation.adapters.round_claims import SqlRoundClaims
from services.generation.adapters.tables import METADATA
from services.generation.adapters.users import GrpcUsers
from services.generation.metrics import GenerationMetrics
from services.generation.painting import Painter
from services.generation.places import Places
from services.generation.ports import Ranker, Users
from services.generation.rounds import Rounds
from services.generation.servicer import GenerationServicer
from services.generation.settings import Settings
from services.generation.suggestions import Suggester
from services.runtime import logs
from services.runtime.clients import open_channel
from services.runtime.clock import now_us
from services.runtime.database import Database
from services.runtime.events import Events, KafkaEvents
from services.runtime.health import Dependency
from services.runtime.images import ImageLimits
from services.runtime.release import Releases
from services.runtime.server import Server
from services.runtime.tokens import Tokenizers
from services.runtime.triton import Models, TritonModels


def build(settings: Settings, models: Models, users: Users, ranker: Ranker, events: Events) -> Server:
    """The service, not yet started."""
    registry = CollectorRegistry()
    metrics = GenerationMetrics(registry)
    releases, tokenizers = Releases(settings.model_repository), Tokenizers()
    database = Database(settings.database_url, METADATA, timeout_s=settings.database_timeout_s)
    pictures = FsspecPictures(settings.object_store_url, timeout_s=settings.object_store_timeout_s)
    claims = SqlRoundClaims(database, now_us, settings.round_lease_s)
    rounds = Rounds(
        claims=claims,
        groups=SqlGroups(database, claims),
        pictures=pictures,
        painter=Painter(models, tokenizers, metrics),
        users=users,
        ranker=ranker,
        events=events,
        metrics=metrics,
        clock=now_us,
        topic=settings.groups_topic,
        lease_s=settings.round_lease_s,
    )
    limits = ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels)
    suggester = Suggester(models, tokenizers, users, settings.max_batch)
    servicer = GenerationServicer(releases, rounds, suggester, limits, Places(settings.max_concurrent_rounds))

    async def models_compute() -> None:
        await models.check([*painting.MODELS, *suggestions.MODELS], releases.current().number)

    return Server(
        settings,
        service="perfusion.v1.GenerationService",
        register=partial(add_GenerationServiceServicer_to_server, servicer),
        dependencies=[
            Dependency("database", database.check),
            Dependency("object store", pictures.check),
            Dependency("triton", models_compute),
            Dependency("kafka", events.check),
            Dependency("user embedding service", users.check),
            Dependency("ranking service", ranker.check),
        ],
        registry=registry,
        closers=[events.close, models.close, database.close, pictures.close],
    )


async def _serve(settings: Settings) -> None:
    size = settings.max_message_bytes
    models = TritonModels(settings.triton_address, timeout_s=settings.triton_timeout_s, max_message_bytes=size)
    events = KafkaEvents(settings.kafka_bootstrap, (settings.groups_topic,), timeout_s=settings.kafka_timeout_s)
    channels: list[grpc.aio.Channel] = [
        open_channel(address, max_message_bytes=size)
        for address in (settings.user_embedding_address, settings.ranking_address)
    ]
    users = GrpcUsers(channels[0], timeout_s=settings.service_timeout_s)
    ranker = GrpcRanker(channels[1], timeout_s=settings.service_timeout_s)
    await build(settings, models, users, ranker, events).run()
    for channel in channels:
        await channel.close(None)


if __name__ == "__main__":
    _settings = Settings()
    logs.configure("generation", _settings.log_level)
    asyncio.run(_serve(_settings))
