"""The feedback service's settings; see services/runtime/settings.py for those it shares."""

from pydantic import Field

from contract import topics
from services.runtime.settings import DatabaseSettings, KafkaSettings, RuntimeSettings


class Settings(RuntimeSettings, KafkaSettings, DatabaseSettings):
    """Read once, by `__main__`."""

    port: int = Field(default=50054, ge=0, le=65535, description="gRPC port; 0 lets the system choose.")
    metrics_port: int = Field(default=51054, ge=0, le=65535, description="Prometheus port; 0 lets the system choose.")
    database_url: str = Field(
        default="sqlite:///build/local/feedback.sqlite",
        description="SQLAlchemy URL, sqlite:///FILE or postgresql://…; the asynchronous driver is added here.",
    )
    feedback_topic: str = Field(default=topics.FEEDBACK, description="Kafka topic of FeedbackGiven.")
    generation_address: str = Field(default="localhost:50052", description="Generation service, host:port.")
    service_timeout_s: float = Field(default=10.0, gt=0, description="Longest call to another service, seconds.")
