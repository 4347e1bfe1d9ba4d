"""Runs the user embedding service: wiring only.

python -m services.user_embedding
"""

from functools import partial

from perfusion.v1.user_embedding_service_pb2_grpc import add_UserEmbeddingServiceServicer_to_server
from prometheus_client import CollectorRegistry

from services.runtime import process
from services.runtime.clock import now_us
from services.runtime.database import Database
from services.runtime.health import Dependency
from services.runtime.identity import identity_of, kafka_of
from services.runtime.records import KafkaRecords, Records
from services.runtime.release import Releases
from services.runtime.server import Server
from services.runtime.triton import Models, TritonModels
from services.user_embedding.adapters.encoder import MODEL, TritonUserEncoder
from services.user_embedding.adapters.histories import SqlHistories
from services.user_embedding.adapters.profiles import SqlProfiles
from services.user_embedding.adapters.tables import SCHEMA
from services.user_embedding.consumer import Consumer
from services.user_embedding.embeddings import Embeddings
from services.user_embedding.favours import PersonalFavours
from services.user_embedding.metrics import HistoryMetrics, ProfileMetrics
from services.user_embedding.servicer import UserEmbeddingServicer
from services.user_embedding.settings import Settings
from services.user_embedding.users import Users


def build(settings: Settings, models: Models, records: Records) -> Server:
    """The service, not yet started."""
    registry, releases = CollectorRegistry(), Releases(settings.model_repository)
    database = Database(
        settings.database_url, SCHEMA, timeout_s=settings.database_timeout_s, migrate=settings.database_migrate
    )
    histories = SqlHistories(database)
    consumer = Consumer(records, histories, HistoryMetrics(registry), now_us)
    users = Users(
        profiles=SqlProfiles(database),
        histories=histories,
        embeddings=Embeddings(TritonUserEncoder(models, settings.triton_max_batch), settings.remembered_embeddings),
        favours=PersonalFavours(settings.remembered_embeddings),
        metrics=ProfileMetrics(registry),
        clock=now_us,
    )
    servicer = UserEmbeddingServicer(users, releases)

    async def encoder_computes() -> None:
        await models.check([MODEL], releases.current().number)

    release = Dependency("release", releases.check)
    writes, reads = Dependency("database", database.check), Dependency("database for reading", database.check_reads)
    triton = Dependency("triton", encoder_computes)
    return Server(
        settings,
        service="perfusion.v1.UserEmbeddingService",
        register=partial(add_UserEmbeddingServiceServicer_to_server, servicer),
        needs={
            "PutUserProfile": [release, writes],
            "GetUserProfile": [reads],
            "GetUserEmbedding": [reads, triton],
            "BatchGetUserEmbeddings": [reads, triton],
        },
        registry=registry,
        workers=[consumer.run, consumer.sweep],  # whatever becomes of them, calls are answered from what is known
        closers=[records.close, models.close, database.close],
    )


async def _serve(settings: Settings) -> None:
    models = TritonModels(
        settings.triton_address,
        timeout_s=settings.triton_timeout_s,
        max_message_bytes=settings.max_message_bytes,
        certificates=identity_of(settings).certificates,
    )
    topics = (settings.groups_topic, settings.feedback_topic)
    records = KafkaRecords(kafka_of(settings), topics, timeout_s=settings.kafka_read_timeout_s)
    await build(settings, models, records).run()


if __name__ == "__main__":
    process.run("user_embedding", Settings, _serve)
