"""The ranking service's settings; see services/runtime/settings.py for those it shares."""

from pydantic import Field

from services.runtime.settings import RuntimeSettings, TritonSettings
from services.runtime.values import Address, Count, Port, Seconds, Size


class Settings(RuntimeSettings, TritonSettings):
    """Read once, by `__main__`."""

    port: Port = Field(default=50053, description="gRPC port; 0 lets the system choose.")
    metrics_port: Port = Field(default=51053, description="Prometheus port; 0 lets the system choose.")
    user_embedding_address: Address = Field(default="localhost:50051", description="User embedding service, host:port.")
    service_timeout_s: Seconds = Field(default=10.0, description="Longest call to another service, seconds.")
    max_batch: Count = Field(default=32, description="Largest batch the models take (config.pbtxt).")
    max_image_bytes: Size = Field(default=10 * 2**20, description="Largest encoded picture, bytes.")
    max_image_pixels: Size = Field(default=25_000_000, description="Largest picture, width × height.")
