"""Runs the generation service: wiring only.

python -m services.generation
"""

from functools import partial

import grpc
from perfusion.v1.events_pb2 import GroupGenerated
from perfusion.v1.generation_service_pb2_grpc import add_GenerationServiceServicer_to_server
from prometheus_client import CollectorRegistry

from services.generation import painting, suggestions
from services.generation.adapters.groups import SqlGroups
from services.generation.adapters.pictures import FsspecPictures
from services.generation.adapters.ranker import GrpcRanker
from services.generation.adapters.references import SqlReferences
from services.generation.adapters.round_claims import SqlRoundClaims
from services.generation.adapters.tables import OUTBOX, SCHEMA
from services.generation.adapters.users import GrpcUsers
from services.generation.assigning import Assigner
from services.generation.metrics import GenerationMetrics
from services.generation.painting import Painter
from services.generation.places import Places
from services.generation.ports import Ranker, Users
from services.generation.reading import Reader
from services.generation.rounds import Rounds
from services.generation.servicer import GenerationServicer
from services.generation.settings import Settings
from services.generation.stepping import Denoiser
from services.generation.suggestions import Suggester
from services.generation.sweeping import Sweeper
from services.runtime import process
from services.runtime.clients import open_channel
from services.runtime.clock import now_us
from services.runtime.database import Database
from services.runtime.events import Events, KafkaEvents
from services.runtime.health import Dependency
from services.runtime.identity import identity_of, kafka_of
from services.runtime.images import Decoder, ImageLimits
from services.runtime.leases import Watch
from services.runtime.outbox import Outbox
from services.runtime.relay import Relay, RelayMetrics
from services.runtime.release import Releases
from services.runtime.server import Server
from services.runtime.tokens import Tokenizers
from services.runtime.triton import Models, TritonModels
from services.runtime.workers import repeat


def build(settings: Settings, models: Models, users: Users, ranker: Ranker, events: Events) -> Server:
    """The service, not yet started."""
    registry = CollectorRegistry()
    metrics = GenerationMetrics(registry)
    releases, tokenizers = Releases(settings.model_repository), Tokenizers()
    database = Database(
        settings.database_url, SCHEMA, timeout_s=settings.database_timeout_s, migrate=settings.database_migrate
    )
    pictures = FsspecPictures(
        settings.object_store_url,
        timeout_s=settings.object_store_timeout_s,
        remembered_bytes=settings.remembered_picture_bytes,
    )
    sweeper = Sweeper(pictures, SqlReferences(database), settings.sweep_grace_s)
    claims = SqlRoundClaims(database, Watch(settings.round_lease_s))
    outbox = Outbox(database, OUTBOX, now_us, Watch(settings.outbox_lease_s))
    topics = {GroupGenerated.DESCRIPTOR.full_name: settings.groups_topic}
    relay = Relay(outbox, events, topics, RelayMetrics(registry), now_us, settings)
    denoiser = Denoiser(
        models,
        metrics,
        calls=settings.denoiser_calls,
        least_rows=settings.denoiser_least_rows,
        most_rows=settings.denoiser_most_rows,
        quantum=settings.denoiser_turn,
        limit=settings.max_concurrent_rounds,
    )
    rounds = Rounds(
        claims=claims,
        groups=SqlGroups(database, claims, outbox),
        pictures=pictures,
        painter=Painter(models, tokenizers, metrics),
        users=users,
        ranker=ranker,
        assigner=Assigner(releases, metrics),
        relay=relay,
        metrics=metrics,
        clock=now_us,
        lease_s=settings.round_lease_s,
        denoiser=denoiser,
        waiting=Places(settings.max_waiting_calls, "calls waiting for another call's round"),
    )
    decoder = Decoder(ImageLimits(max_bytes=settings.max_image_bytes, max_pixels=settings.max_image_pixels))
    suggester = Suggester(models, tokenizers, users, settings.max_batch)
    servicer = GenerationServicer(releases, rounds, suggester, decoder, Reader(releases, tokenizers))

    async def painters_compute() -> None:
        await models.check(painting.MODELS, releases.current().number)

    async def scorers_compute() -> None:
        await models.check(suggestions.MODELS, releases.current().number)

    sweep = partial(repeat, sweeper.sweep, name="sweeping the object store", interval_s=settings.sweep_interval_s)
    sweepers = [sweep] if settings.sweep_interval_s else []
    release = Dependency("release", releases.check)
    writes, reads = Dependency("database", database.check), Dependency("database for reading", database.check_reads)
    store, stored = (
        Dependency("object store", pictures.check),
        Dependency("object store for reading", pictures.check_reads),
    )
    painters = Dependency("triton for painting", painters_compute)
    scorers = Dependency("triton for suggestions", scorers_compute)
    kafka = Dependency("kafka", events.check)
    user_vectors = Dependency("user embedding service", users.check)
    ranking = Dependency("ranking service", ranker.check)
    return Server(
        settings,
        service="perfusion.v1.GenerationService",
        register=partial(add_GenerationServiceServicer_to_server, servicer),
        needs={
            "Generate": [writes, store, painters, kafka, user_vectors, ranking],
            "GetGroup": [reads, stored],
            "ListGroups": [reads],
            "SuggestPhrases": [scorers, user_vectors],
            "GetReleaseInfo": [release],
        },
        registry=registry,
        workers=[
            relay.run,
            partial(repeat, claims.sweep, name="sweeping rounds", interval_s=settings.round_lease_s / 3),
            *sweepers,
        ],
        closers=[denoiser.stop, events.close, models.close, database.close, pictures.close, decoder.close],
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
    events = KafkaEvents(kafka_of(settings), (settings.groups_topic,), timeout_s=settings.kafka_timeout_s)
    channels: list[grpc.aio.Channel] = [
        open_channel(address, max_message_bytes=size, certificates=certificates)
        for address in (settings.user_embedding_address, settings.ranking_address)
    ]
    users = GrpcUsers(channels[0], timeout_s=settings.service_timeout_s)
    ranker = GrpcRanker(channels[1], timeout_s=settings.service_timeout_s)
    await build(settings, models, users, ranker, events).run()
    for channel in channels:
        await channel.close(None)


if __name__ == "__main__":
    process.run("generation", Settings, _serve)
