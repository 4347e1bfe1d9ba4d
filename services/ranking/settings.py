"""The ranking service's settings; see services/runtime/settings.py for those it shares."""

from pydantic import Field

from services.runtime.settings import RuntimeSettings, TritonSettings


class Settings(RuntimeSettings, TritonSettings):
    """Read once, by `__main__`."""

    port: int = Field(default=50053, ge=0, le=65535, description="gRPC port; 0 lets the system choose.")
    metrics_port: int = Field(default=51053, ge=0, le=65535, description="Prometheus port; 0 lets the system choose.")
    user_embedding_address: str = Field(default="localhost:50051", description="User embedding service, host:port.")
    service_timeout_s: float = Field(default=10.0, gt=0, description="Longest call to another service, seconds.")
    max_batch: int = Field(default=32, ge=1, description="Largest batch the models take (config.pbtxt).")
    max_image_bytes: int = Field(default=10 * 2**20, ge=1, description="Largest encoded picture, bytes.")
    max_image_pixels: int = Field(default=25_000_000, ge=1, description="Largest picture, width × height.")
