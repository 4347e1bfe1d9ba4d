"""The feedback service's settings; see services/runtime/settings.py for those it shares."""

from typing import Annotated

from pydantic import Field

from contract import topics
from services.runtime.settings import DatabaseSettings, KafkaSettings, RuntimeSettings
from services.runtime.values import Address, Count, DatabaseUrl, Port, Seconds, Size, Topic, at_least


class Settings(RuntimeSettings, KafkaSettings, DatabaseSettings):
    """Read once, by `__main__`."""

    port: Port = Field(default=50054, description="gRPC port; 0 lets the system choose.")
    metrics_port: Port = Field(default=51054, description="Prometheus port; 0 lets the system choose.")
    max_request_bytes: Annotated[Size, at_least(2**16)] = Field(default=2**20, description="Largest request, bytes.")
    max_concurrent_calls: Count = Field(default=1024, description="Calls in flight; one more is RESOURCE_EXHAUSTED.")
    max_picks_in_flight: Count = Field(
        default=512,
        description="Picks of SubmitFeedback at work at once; others wait for most of their deadline, "
        "then are RESOURCE_EXHAUSTED.",
    )
    import_streams: Count = Field(default=4, description="Imports at once; one more is RESOURCE_EXHAUSTED.")
    import_window: Count = Field(
        default=1024, description="Picks of one import without an answer; while there are so many, it is not read on."
    )
    import_picks: Count = Field(
        default=1_000_000, description="Picks of one import in all; it ends RESOURCE_EXHAUSTED before one more."
    )
    database_url: DatabaseUrl = Field(
        default="sqlite:///build/local/feedback.sqlite",
        description="SQLAlchemy URL, sqlite:///FILE or postgresql://…; the asynchronous driver is added here.",
    )
    feedback_topic: Topic = Field(default=topics.FEEDBACK, description="Kafka topic of FeedbackGiven.")
    generation_address: Address = Field(default="localhost:50052", description="Generation service, host:port.")
    service_timeout_s: Seconds = Field(default=10.0, description="Longest call to another service, seconds.")
