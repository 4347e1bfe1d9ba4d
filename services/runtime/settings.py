"""Settings every service has, read once from the environment (prefix PERFUSION_).

It knows names, meanings, units and defaults. It does not know which service needs which: each service's own settings.py
combines the classes below and adds its own fields.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class RuntimeSettings(BaseSettings):
    """What every server needs. A subclass must give `port` and `metrics_port` their defaults."""

    model_config = SettingsConfigDict(env_prefix="PERFUSION_", frozen=True, extra="ignore")

    host: str = Field(default="0.0.0.0", description="Address the gRPC and metrics servers listen on.")
    port: int = Field(default=0, ge=0, le=65535, description="gRPC port; 0 lets the system choose.")
    metrics_port: int = Field(default=0, ge=0, le=65535, description="Prometheus port; 0 lets the system choose.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least severe level logged."
    )
    model_repository: Path = Field(
        default=Path("model_repository"), description="Directory with releases/ and the models."
    )
    max_concurrent_calls: int = Field(default=64, ge=1, description="Calls in flight; one more is RESOURCE_EXHAUSTED.")
    max_message_bytes: int = Field(default=32 * 2**20, ge=2**20, description="Largest gRPC message in or out, bytes.")
    default_deadline_s: float = Field(
        default=60.0, gt=0, description="Deadline of a call whose caller gave none, seconds."
    )
    drain_s: float = Field(default=20.0, ge=0, description="Time that calls in flight get after SIGTERM, seconds.")
    lame_duck_s: float = Field(
        default=0.0,
        ge=0,
        description="After SIGTERM, how long NOT_SERVING is shown while new calls are still taken, seconds.",
    )
    health_interval_s: float = Field(
        default=2.0, gt=0, description="Pause between two polls of the dependencies, seconds."
    )
    health_timeout_s: float = Field(default=5.0, gt=0, description="Time a dependency has to answer a poll, seconds.")


class TritonSettings(BaseSettings):
    """For services that call models."""

    model_config = SettingsConfigDict(env_prefix="PERFUSION_", frozen=True, extra="ignore")

    triton_address: str = Field(default="localhost:8001", description="Triton's gRPC address, host:port.")
    triton_timeout_s: float = Field(default=20.0, gt=0, description="Longest that one inference may take, seconds.")


class KafkaSettings(BaseSettings):
    """For services that publish events."""

    model_config = SettingsConfigDict(env_prefix="PERFUSION_", frozen=True, extra="ignore")

    kafka_bootstrap: str = Field(
        default="localhost:9092", description="Kafka's bootstrap addresses, host:port, by commas."
    )
    kafka_timeout_s: float = Field(
        default=8.0, gt=0, description="Longest wait for an event's acknowledgement, seconds."
    )


class DatabaseSettings(BaseSettings):
    """For services that keep records."""

    model_config = SettingsConfigDict(env_prefix="PERFUSION_", frozen=True, extra="ignore")

    database_url: str = Field(
        default="sqlite:///build/local/perfusion.sqlite",
        description="SQLAlchemy URL, sqlite:///FILE or postgresql://…; the asynchronous driver is added here.",
    )
    database_timeout_s: float = Field(
        default=5.0, gt=0, description="Longest wait for a connection, lock or statement, seconds."
    )
