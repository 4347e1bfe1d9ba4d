"""The items service's settings; see services/runtime/settings.py for those it shares."""

from typing import Annotated

from pydantic import Field

from contract import topics
from services.runtime.settings import DatabaseSettings, KafkaSettings, RuntimeSettings
from services.runtime.values import Address, Count, DatabaseUrl, File, Port, Seconds, Size, Topic, WebUrl, at_least


class Settings(RuntimeSettings, KafkaSettings, DatabaseSettings):
    """Read once, by `__main__`."""

    port: Port = Field(default=50055, description="gRPC port; 0 lets the system choose.")
    metrics_port: Port = Field(default=51055, description="Prometheus port; 0 lets the system choose.")
    max_request_bytes: Annotated[Size, at_least(2**16)] = Field(default=2**20, description="Largest request, bytes.")
    database_url: DatabaseUrl = Field(
        default="sqlite:///build/local/items.sqlite",
        description="SQLAlchemy URL, sqlite:///FILE or postgresql://…; the asynchronous driver is added here.",
    )
    presales_topic: Topic = Field(default=topics.PRESALES, description="Kafka topic of PresaleChanged.")
    orders_topic: Topic = Field(default=topics.ORDERS, description="Kafka topic of OrderChanged.")
    shop_topic: Topic = Field(default=topics.SHOP, description="Kafka topic of ShopEvent.")
    generation_address: Address = Field(default="localhost:50052", description="Generation service, host:port.")
    service_timeout_s: Seconds = Field(default=10.0, description="Longest call to another service, seconds.")
    payment_key: File | None = Field(
        default=None,
        description="File with the secret key of the account at the provider of payments (Stripe), read at start, "
        "required.",
    )
    payment_webhook_secret: File | None = Field(
        default=None,
        description="File with the secret by which the provider signs what it posts, read at start, required.",
    )
    payment_url: WebUrl | None = Field(
        default=None, description="Where the provider's API is, http:// on this machine alone; None is Stripe's own."
    )
    payment_return_url: WebUrl | None = Field(
        default=None,
        description='Where a buyer comes back to who had to act at the bank; "/" and the order_id are added.',
    )
    payment_timeout_s: Seconds = Field(default=20.0, description="Longest call of the provider, seconds.")
    hold_days: Count = Field(
        default=6,
        description="How many days the provider of payments holds money; a sale that lasts longer charges at once.",
    )
    recipient_days: Count = Field(
        default=30,
        description="How many days it is known whom an order was sent to, after it ended or could last be given back.",
    )
    pay_within_s: Seconds = Field(
        default=900.0, description="How long units are kept for an order that is not paid, seconds."
    )
    settling_interval_s: Seconds = Field(
        default=1.0, description="Pause between two looks for presales, orders and payments that are due, seconds."
    )
