"""Runs the items service: wiring only.

python -m services.items
"""

from functools import partial
from uuid import uuid4

from perfusion.v1.events_pb2 import OrderChanged, PresaleChanged, ShopEvent
from perfusion.v1.items_service_pb2_grpc import add_ItemsServiceServicer_to_server
from prometheus_client import CollectorRegistry

from services.items.adapters.books import DatabaseClock, SqlBooks
from services.items.adapters.groups import GrpcGroups
from services.items.adapters.stripe import StripeProvider
from services.items.adapters.tables import OUTBOX, SCHEMA
from services.items.metrics import ItemsMetrics
from services.items.ports import Groups, Provider
from services.items.presales import DAY_US
from services.items.recording import ShopEvents
from services.items.selling import Selling
from services.items.servicer import ItemsServicer
from services.items.settings import Settings
from services.items.settling import Settling
from services.runtime import process
from services.runtime.clients import open_channel
from services.runtime.clock import now_us
from services.runtime.database import Database
from services.runtime.events import Events, KafkaEvents
from services.runtime.health import Dependency
from services.runtime.identity import IdentityError, identity_of, kafka_of, read_secret
from services.runtime.leases import Watch
from services.runtime.outbox import Outbox
from services.runtime.relay import Relay, RelayMetrics
from services.runtime.server import Server
from services.runtime.workers import repeat

_METHODS = {  # beside the database, by what they need
    "groups": ("CreatePresale", "UpdatePresale"),
    "kafka": ("RecordShopEvents",),
    "writes": (
        *("OpenPresale", "CancelPresale", "DecidePresale", "DelayPresale", "FailProduction"),
        *("PlaceOrder", "CancelOrder", "AnswerDelay", "ShipOrder", "ReceivePaymentEvent"),
    ),
    "reads": ("GetPresale", "ListPresales", "GetOrder", "ListOrders", "ListChanges"),
}
FORGET_S = 3600.0  # between two looks for recipients whose time is over


def build(
    settings: Settings, groups: Groups, provider: Provider, events: Events, clock: DatabaseClock | None = None
) -> Server:
    """The service, not yet started."""
    registry = CollectorRegistry()
    database = Database(
        settings.database_url, SCHEMA, timeout_s=settings.database_timeout_s, migrate=settings.database_migrate
    )
    outbox = Outbox(database, OUTBOX, now_us, Watch(settings.outbox_lease_s))
    topics = {
        PresaleChanged.DESCRIPTOR.full_name: settings.presales_topic,
        OrderChanged.DESCRIPTOR.full_name: settings.orders_topic,
        ShopEvent.DESCRIPTOR.full_name: settings.shop_topic,
    }
    relay = Relay(outbox, events, topics, RelayMetrics(registry), now_us, settings)
    books = SqlBooks(database, outbox, clock or DatabaseClock())
    settling = Settling(books, provider, ItemsMetrics(registry))
    selling = Selling(
        books=books,
        groups=groups,
        new_id=lambda: str(uuid4()),
        begin=settling.begin,
        hold_us=settings.hold_days * DAY_US,
        pay_within_us=round(settings.pay_within_s * 1e6),
    )
    forget = partial(books.forget_recipients, settings.recipient_days * DAY_US)
    writes = Dependency("database", database.check)
    needs = {
        "groups": [writes, Dependency("generation service", groups.check)],
        "kafka": [Dependency("kafka", events.check)],
        "writes": [writes],
        "reads": [Dependency("database for reading", database.check_reads)],
    }
    return Server(
        settings,
        service="perfusion.v1.ItemsService",
        register=partial(
            add_ItemsServiceServicer_to_server,
            ItemsServicer(selling, settling, provider, ShopEvents(events, settings.shop_topic)),
        ),
        needs={method: needs[kind] for kind, methods in _METHODS.items() for method in methods},
        registry=registry,
        workers=[
            relay.run,
            partial(settling.run, settings.settling_interval_s),
            partial(repeat, forget, name="erasing whom orders were sent to", interval_s=FORGET_S),
        ],
        closers=[events.close, provider.close, database.close],
    )


def _provider_of(settings: Settings) -> Provider:
    """Stripe, or what speaks its API.

    Raises:
        IdentityError: nothing says whose account it is that buyers pay to.
    """
    if settings.payment_key is None:
        raise IdentityError("PERFUSION_PAYMENT_KEY must name a file with the key of the account that buyers pay to")
    if settings.payment_webhook_secret is None:
        raise IdentityError("PERFUSION_PAYMENT_WEBHOOK_SECRET must name a file with the secret of its events")
    return StripeProvider(
        read_secret("PERFUSION_PAYMENT_KEY", settings.payment_key),
        read_secret("PERFUSION_PAYMENT_WEBHOOK_SECRET", settings.payment_webhook_secret),
        url=settings.payment_url,
        return_url=settings.payment_return_url,
        timeout_s=settings.payment_timeout_s,
    )


async def _serve(settings: Settings) -> None:
    certificates = identity_of(settings).certificates
    topics = (settings.presales_topic, settings.orders_topic, settings.shop_topic)
    events = KafkaEvents(kafka_of(settings), topics, timeout_s=settings.kafka_timeout_s)
    size = settings.max_message_bytes
    async with open_channel(settings.generation_address, max_message_bytes=size, certificates=certificates) as channel:
        groups = GrpcGroups(channel, timeout_s=settings.service_timeout_s)
        await build(settings, groups, _provider_of(settings), events).run()


if __name__ == "__main__":
    process.run("items", Settings, _serve)
