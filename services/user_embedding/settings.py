"""The user embedding service's settings; see services/runtime/settings.py for those it shares."""

from pydantic import Field

from services.runtime.settings import DatabaseSettings, RuntimeSettings, TritonSettings


class Settings(RuntimeSettings, TritonSettings, DatabaseSettings):
    """Read once, by `__main__`."""

    port: int = Field(default=50051, ge=0, le=65535, description="gRPC port; 0 lets the system choose.")
    metrics_port: int = Field(default=51051, ge=0, le=65535, description="Prometheus port; 0 lets the system choose.")
    database_url: str = Field(
        default="sqlite:///build/local/user_embedding.sqlite",
        description="SQLAlchemy URL, sqlite:///FILE or postgresql://…; the asynchronous driver is added here.",
    )
    remembered_embeddings: int = Field(
        default=10_000, ge=0, description="Vectors kept in memory, in profiles; 0 keeps none."
    )
    triton_max_batch: int = Field(
        default=32, ge=1, description="Samples per inference; at most user_encoder's max_batch_size."
    )
