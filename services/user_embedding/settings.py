"""The user embedding service's settings; see services/runtime/settings.py for those it shares."""

from typing import Annotated

from pydantic import Field

from contract import topics
from services.runtime.settings import DatabaseSettings, KafkaAddress, RuntimeSettings, TritonSettings
from services.runtime.values import Count, CountOrNone, DatabaseUrl, Port, Seconds, Size, Topic, at_least


class Settings(RuntimeSettings, TritonSettings, KafkaAddress, DatabaseSettings):
    """Read once, by `__main__`."""

    port: Port = Field(default=50051, description="gRPC port; 0 lets the system choose.")
    metrics_port: Port = Field(default=51051, description="Prometheus port; 0 lets the system choose.")
    max_request_bytes: Annotated[Size, at_least(2**16)] = Field(default=2**20, description="Largest request, bytes.")
    database_url: DatabaseUrl = Field(
        default="sqlite:///build/local/user_embedding.sqlite",
        description="SQLAlchemy URL, sqlite:///FILE or postgresql://…; the asynchronous driver is added here.",
    )
    remembered_embeddings: CountOrNone = Field(
        default=10_000, description="Vectors kept in memory, in profiles; 0 keeps none."
    )
    groups_topic: Topic = Field(default=topics.GROUPS, description="Kafka topic of GroupGenerated.")
    feedback_topic: Topic = Field(default=topics.FEEDBACK, description="Kafka topic of FeedbackGiven.")
    kafka_read_timeout_s: Seconds = Field(
        default=8.0, description="Longest that Kafka may take to answer a reader, seconds."
    )
    triton_max_batch: Count = Field(
        default=32, description="Samples per inference; at most user_encoder's max_batch_size."
    )
