"""The studio's settings; see services/runtime/settings.py for those it shares."""

from typing import Annotated

from pydantic import Field

from services.runtime.settings import DatabaseSettings, ProcessSettings
from services.runtime.values import Address, Count, DatabaseUrl, File, Line, Port, Seconds, WebUrl, at_least


class Settings(ProcessSettings, DatabaseSettings):
    """Read once, by `__main__`."""

    port: Port = Field(default=8080, description="HTTP port; 0 lets the system choose.")
    metrics_port: Port = Field(default=9080, description="Prometheus port; 0 lets the system choose.")
    public_url: WebUrl = Field(
        default="http://localhost:8080",
        description="How browsers reach the studio: https://HOST, where TLS ends before it; http:// is this machine.",
    )
    token: File | None = Field(
        default=None,
        description="File with the token that names the merchants for whom the studio may act, read again when it "
        "changes; it goes with the certificate.",
    )
    database_url: DatabaseUrl = Field(
        default="sqlite:///build/local/studio.sqlite",
        description="SQLAlchemy URL, sqlite:///FILE or postgresql://…; the asynchronous driver is added here.",
    )
    user_embedding_address: Address = Field(default="localhost:50051", description="User embedding service, host:port.")
    generation_address: Address = Field(default="localhost:50052", description="Generation service, host:port.")
    feedback_address: Address = Field(default="localhost:50054", description="Feedback service, host:port.")
    items_address: Address = Field(default="localhost:50055", description="Items service, host:port.")
    payment_methods: Line | None = Field(
        default=None,
        description="What buyers choose from to pay: the payment provider's names of its test methods, separated by "
        "commas; None: the shop shows items and takes no orders.",
    )
    service_timeout_s: Seconds = Field(default=10.0, description="Longest call to another service, seconds.")
    round_timeout_s: Seconds = Field(
        default=180.0, description="Longest that a round may take, tries after a failure included, seconds."
    )
    round_lease_s: Annotated[Seconds, at_least(1)] = Field(
        default=10.0, description="How long another replica waits before it takes over a silent one's rounds, seconds."
    )
    rounds_per_merchant: Count = Field(default=4, description="Rounds of one merchant at once; one more is refused.")
    max_readers: Count = Field(default=1024, description="Open pages that follow rounds; one more is refused.")
    oidc_issuer: WebUrl | None = Field(
        default=None, description="Who merchants log in with: the issuer's address (OpenID Connect)."
    )
    oidc_client_id: Line = Field(default="studio", description="The studio's name at the issuer.")
    oidc_client_secret: File | None = Field(
        default=None, description="File with the studio's secret at the issuer, read at start."
    )
    oidc_merchants_claim: Line = Field(
        default="merchants",
        description="Claim of the ID token with the user_ids of the merchants for whom the person may act, a list.",
    )
    session_idle_s: Seconds = Field(
        default=28800.0, description="A session ends when it is not used for so long, seconds."
    )
    session_age_s: Seconds = Field(default=86400.0, description="A session ends when it is so old, seconds.")
