"""Settings every service has, read once from the environment (prefix PERFUSION_).

It knows names, meanings, units and defaults. It does not know which service needs which: each service's own settings.py
combines the classes below and adds its own fields.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from contract.tracing import DEFAULT_SHARE
from services.runtime.values import (
    Address,
    Addresses,
    Count,
    DatabaseUrl,
    File,
    Folder,
    Host,
    Line,
    Port,
    Seconds,
    SecondsOrNone,
    Share,
    Size,
    Switch,
    Text,
    TracesTo,
    TrustDomain,
    at_least,
)

PREFIX = "PERFUSION_"
SettingsT = TypeVar("SettingsT", bound=BaseSettings)


class ProcessSettings(BaseSettings):
    """What every process that serves needs. A subclass must give `port` and `metrics_port` their defaults."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    host: Host = Field(
        default="0.0.0.0",
        description="What the servers of calls and metrics listen on: a name, an IPv4 or an IPv6 address; :: is both.",
    )
    metrics_port: Port = Field(default=0, description="Prometheus port; 0 lets the system choose.")
    certificates: Folder | None = Field(
        default=None,
        description="Folder with tls.crt, tls.key and ca.crt (PEM): this process's certificate, for the calls that it "
        "serves and makes, and the authority of the other parts'. Changed files are used from the next connection on.",
    )
    clear_text: Switch = Field(
        default=False,
        description="Development on one machine: without certificates, nothing is encrypted and every caller may do "
        "everything; PERFUSION_HOST must be of this machine alone.",
    )
    log_level: Annotated[Literal["DEBUG", "INFO", "WARNING", "ERROR"], Text] = Field(
        default="INFO", description="Least severe level logged."
    )
    traces_to: TracesTo | None = Field(
        default=None,
        description="Where spans go: https://HOST:PORT of an OpenTelemetry collector (OTLP over gRPC), http:// on this "
        "machine, or file://FOLDER, for development; None: they are not recorded.",
    )
    traces_share: Share = Field(
        default=DEFAULT_SHARE,
        description="Share of the traces that begin here whose spans are recorded; where the caller says that it "
        "records its trace, or that it does not, this process does the same.",
    )
    max_message_bytes: Annotated[Size, at_least(2**20)] = Field(
        default=32 * 2**20, description="Largest answer, given or received, bytes."
    )
    drain_s: SecondsOrNone = Field(default=20.0, description="Time that calls in flight get after SIGTERM, seconds.")
    lame_duck_s: SecondsOrNone = Field(
        default=0.0,
        description="After SIGTERM, how long NOT_SERVING is shown while new calls are still taken, seconds.",
    )
    health_interval_s: Seconds = Field(default=1.0, description="Pause between two polls of a dependency, seconds.")
    health_timeout_s: Seconds = Field(default=3.0, description="Time a dependency has to answer a poll, seconds.")


class RuntimeSettings(ProcessSettings):
    """What every gRPC server needs."""

    port: Port = Field(default=0, description="gRPC port; 0 lets the system choose.")
    client_authority: File | None = Field(
        default=None,
        description="File with the authority of clients' certificates (PEM), read again when it changes; without it, "
        "only the platform's own parts can call.",
    )
    trust_domain: TrustDomain = Field(
        default="perfusion", description="Whose certificates count: SPIFFE IDs of spiffe://DOMAIN/."
    )
    token_keys: File | None = Field(
        default=None,
        description="File with the public keys (JWKS) of who issues clients' tokens, read again when it changes; "
        "without it, no client is let in.",
    )
    token_issuer: Line = Field(default="perfusion", description="Who issues clients' tokens: the claim iss.")
    max_concurrent_calls: Count = Field(default=64, description="Calls in flight; one more is RESOURCE_EXHAUSTED.")
    client_share: Share = Field(
        default=0.8,
        description="Share of these places that one client may have; its next call is RESOURCE_EXHAUSTED, "
        "and other clients find places.",
    )
    max_watches: Count = Field(
        default=256, description="Streams of health and reflection at once; one more is RESOURCE_EXHAUSTED."
    )
    max_request_bytes: Annotated[Size, at_least(2**16)] = Field(
        default=32 * 2**20, description="Largest request, bytes."
    )
    default_deadline_s: Seconds = Field(default=60.0, description="Deadline of a call whose caller gave none, seconds.")
    max_deadline_s: Seconds = Field(
        default=600.0, description="Longest that a call may take, whatever its caller's deadline, seconds."
    )
    write_timeout_s: Seconds = Field(
        default=30.0, description="How long one message of an answer waits for its caller to read it, seconds."
    )
    keepalive_s: Annotated[Seconds, at_least(1)] = Field(
        default=30.0, description="How long a connection may be silent before its other end is probed, seconds."
    )
    max_connection_idle_s: Annotated[Seconds, at_least(1)] = Field(
        default=300.0, description="How long a connection without calls is kept, seconds."
    )
    max_connection_age_s: Annotated[Seconds, at_least(1)] = Field(
        default=1800.0,
        description="How old a connection grows before its client is told to make another, seconds.",
    )


class TritonSettings(BaseSettings):
    """For services that call models."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    triton_address: Address = Field(default="localhost:8001", description="Triton's gRPC address, host:port.")
    triton_timeout_s: Seconds = Field(default=20.0, description="Longest that one inference may take, seconds.")
    model_repository: Folder = Field(
        default=Path("model_repository"), description="Directory with releases/ and the models."
    )


class KafkaAddress(BaseSettings):
    """For services that read events."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    kafka_bootstrap: Addresses = Field(
        default="localhost:9092", description="Kafka's bootstrap addresses, host:port, by commas."
    )
    kafka_certificates: Folder | None = Field(
        default=None,
        description="Folder with tls.crt, tls.key and ca.crt (PEM) for Kafka, where it has an authority of its own; "
        "without it, PERFUSION_CERTIFICATES. Changed files are used from the next connection on.",
    )


class KafkaSettings(KafkaAddress):
    """For services that publish events."""

    kafka_timeout_s: Seconds = Field(default=8.0, description="Longest wait for an event's acknowledgement, seconds.")
    outbox_interval_s: Seconds = Field(
        default=1.0, description="Pause between two looks for events that Kafka has not acknowledged, seconds."
    )
    outbox_backoff_s: Seconds = Field(
        default=10.0, description="Longest such pause, while Kafka takes nothing, seconds."
    )

    @property
    def outbox_lease_s(self) -> float:
        """How long a merchant's events wait for a process that died while it published them: longer than one takes."""
        return 1.5 * self.kafka_timeout_s


class DatabaseSettings(BaseSettings):
    """For services that keep records."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    database_url: DatabaseUrl = Field(
        default="sqlite:///build/local/perfusion.sqlite",
        description="SQLAlchemy URL, sqlite:///FILE or postgresql://…; the asynchronous driver is added here.",
    )
    database_timeout_s: Seconds = Field(
        default=5.0, description="Longest wait for a connection, lock or statement, seconds."
    )
    database_migrate: Switch = Field(
        default=True,
        description="Whether the first contact brings the tables to the service's schema; "
        "false: an older schema is refused until `python -m services.migrations upgrade` has run.",
    )


def load(kind: type[SettingsT]) -> SettingsT:
    """The settings from the environment. A wrong one ends the process: a line each, with its name and remedy."""
    try:
        return kind()
    except ValidationError as error:
        for problem in error.errors():
            print(_explained(kind, str(problem["loc"][0]), problem["msg"], problem["input"]), file=sys.stderr)
    sys.exit(2)


def _explained(kind: type[BaseSettings], name: str, problem: str, given: object) -> str:
    field = kind.model_fields[name]
    problem = problem.removeprefix("Value error, ").replace("Input should be", "must be")
    given = "" if name.endswith("_url") else f", not {str(given)[:100]!r:.100}"  # a URL may hold a password
    return f"{PREFIX}{name.upper()}: {problem}{given}. It is: {field.description} Default: {field.default}"
