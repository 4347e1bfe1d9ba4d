"""Runs the feedback service: wiring only.

python -m services.feedback
"""

from functools import partial
from uuid import uuid4

from perfusion.v1.events_pb2 import FeedbackGiven
from perfusion.v1.feedback_service_pb2_grpc import add_FeedbackServiceServicer_to_server
from prometheus_client import CollectorRegistry

from services.feedback.adapters.groups import GrpcGroups
from services.feedback.adapters.records import SqlRecords
from services.feedback.adapters.remembered import RememberedGroups
from services.feedback.adapters.tables import OUTBOX, SCHEMA
from services.feedback.importing import Bounds, Imports
from services.feedback.metrics import FeedbackMetrics
from services.feedback.ports import Groups
from services.feedback.room import Room
from services.feedback.servicer import FeedbackServicer
from services.feedback.settings import Settings
from services.feedback.submission import Submissions
from services.runtime import process
from services.runtime.clients import open_channel
from services.runtime.clock import now_us
from services.runtime.database import Database
from services.runtime.events import Events, KafkaEvents
from services.runtime.health import Dependency
from services.runtime.identity import identity_of, kafka_of
from services.runtime.leases import Watch
from services.runtime.outbox import Outbox
from services.runtime.relay import Relay, RelayMetrics
from services.runtime.server import Server


def build(settings: Settings, groups: Groups, events: Events) -> Server:
    """The service, not yet started."""
    registry = CollectorRegistry()
    database = Database(
        settings.database_url, SCHEMA, timeout_s=settings.database_timeout_s, migrate=settings.database_migrate
    )
    outbox = Outbox(database, OUTBOX, now_us, Watch(settings.outbox_lease_s))
    topics = {FeedbackGiven.DESCRIPTOR.full_name: settings.feedback_topic}
    relay = Relay(outbox, events, topics, RelayMetrics(registry), now_us, settings)
    reads = Dependency("database for reading", database.check_reads)
    submissions = Submissions(
        groups=RememberedGroups(database, groups),
        records=SqlRecords(database, outbox),
        relay=relay,
        new_id=lambda: str(uuid4()),
        clock=now_us,
    )
    bounds = Bounds(settings.import_streams, settings.import_window, settings.import_picks)
    imports = Imports(submissions, bounds, FeedbackMetrics(registry))
    servicer = FeedbackServicer(submissions, imports, Room(settings.max_picks_in_flight))
    taking = [
        Dependency("database", database.check),
        Dependency("kafka", events.check),
        Dependency("generation service", groups.check),
    ]
    return Server(
        settings,
        service="perfusion.v1.FeedbackService",
        register=partial(add_FeedbackServiceServicer_to_server, servicer),
        needs={
            "SubmitFeedback": taking,
            "ImportFeedback": taking,
            "GetFeedback": [reads],
            "ListFeedback": [reads],
        },
        registry=registry,
        workers=[relay.run],
        closers=[events.close, database.close],
    )


async def _serve(settings: Settings) -> None:
    certificates = identity_of(settings).certificates
    events = KafkaEvents(kafka_of(settings), (settings.feedback_topic,), timeout_s=settings.kafka_timeout_s)
    size = settings.max_message_bytes
    async with open_channel(settings.generation_address, max_message_bytes=size, certificates=certificates) as channel:
        await build(settings, GrpcGroups(channel, timeout_s=settings.service_timeout_s), events).run()


if __name__ == "__main__":
    process.run("feedback", Settings, _serve)
