"""The generation service's settings, read once from the environment (prefix PERFUSION_)."""

from pydantic import Field

from contract import topics
from services.runtime.settings import DatabaseSettings, KafkaSettings, RuntimeSettings, TritonSettings


class Settings(RuntimeSettings, TritonSettings, KafkaSettings, DatabaseSettings):
    """What the shared settings do not say."""

    port: int = Field(default=50052, ge=0, le=65535, description="gRPC port; 0 lets the system choose.")
    metrics_port: int = Field(default=51052, ge=0, le=65535, description="Prometheus port; 0 lets the system choose.")
    max_concurrent_rounds: int = Field(
        default=16, ge=1, description="Generate calls in flight; one more is RESOURCE_EXHAUSTED."
    )
    database_url: str = Field(
        default="sqlite:///build/local/generation.sqlite", description="SQLAlchemy URL of the groups' database."
    )
    object_store_url: str = Field(default="file://build/local/objects", description="fsspec URL of the pictures.")
    object_store_timeout_s: float = Field(
        default=10.0, gt=0, description="Longest wait for one picture to be stored or read, seconds."
    )
    groups_topic: str = Field(default=topics.GROUPS, description="Kafka topic of GroupGenerated.")
    user_embedding_address: str = Field(default="localhost:50051", description="User embedding service, host:port.")
    ranking_address: str = Field(default="localhost:50053", description="Ranking service, host:port.")
    service_timeout_s: float = Field(default=10.0, gt=0, description="Longest call to another service, seconds.")
    round_lease_s: float = Field(
        default=15.0,
        gt=1,
        description="How long a round whose process died blocks a retry of its request_id, seconds.",
    )
    max_batch: int = Field(default=32, ge=1, description="Largest batch the models take (config.pbtxt).")
    max_image_bytes: int = Field(default=10 * 2**20, ge=1, description="Largest reference image, bytes.")
    max_image_pixels: int = Field(default=25_000_000, ge=1, description="Largest reference image, width × height.")
