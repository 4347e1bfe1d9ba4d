"""The generation service's settings, read once from the environment (prefix PERFUSION_)."""

from typing import Annotated

from pydantic import Field

from contract import topics
from services.runtime.settings import DatabaseSettings, KafkaSettings, RuntimeSettings, TritonSettings
from services.runtime.values import (
    Address,
    Count,
    DatabaseUrl,
    ObjectStoreUrl,
    Port,
    Seconds,
    SecondsOrNone,
    Size,
    SizeOrNone,
    Topic,
    at_least,
)


class Settings(RuntimeSettings, TritonSettings, KafkaSettings, DatabaseSettings):
    """What the shared settings do not say."""

    port: Port = Field(default=50052, description="gRPC port; 0 lets the system choose.")
    metrics_port: Port = Field(default=51052, description="Prometheus port; 0 lets the system choose.")
    max_concurrent_rounds: Count = Field(
        default=16, description="Rounds in flight, those in the queue with them; one more is RESOURCE_EXHAUSTED."
    )
    denoiser_calls: Count = Field(
        default=2,
        description="Calls of the denoiser side by side: as many as Triton has instances of it, over all its replicas, "
        "for each replica of this service; one more keeps a GPU busy between two calls.",
    )
    denoiser_least_rows: Count = Field(
        default=16,
        description="Candidates below which a step is not split to keep all calls busy: where a row more costs a call "
        "next to nothing, as on a GPU, many; where it costs a row, as on CPU cores, 1.",
    )
    denoiser_most_rows: Count = Field(
        default=32, description="Candidates in a call of the denoiser; at most its max_batch_size in config.pbtxt."
    )
    denoiser_turn: Count = Field(
        default=100,
        description="Sample-steps (one candidate, one denoising step) that the rounds of one merchant get before it is "
        "another's turn; a usual round needs fewer.",
    )
    max_waiting_calls: Count = Field(
        default=32,
        description="Generate calls that wait for another call's round of the same request_id; "
        "one more is RESOURCE_EXHAUSTED.",
    )
    database_url: DatabaseUrl = Field(
        default="sqlite:///build/local/generation.sqlite", description="SQLAlchemy URL of the groups' database."
    )
    object_store_url: ObjectStoreUrl = Field(
        default="file://build/local/objects", description="fsspec URL of the pictures."
    )
    object_store_timeout_s: Seconds = Field(
        default=10.0, description="Longest wait for one picture to be stored or read, seconds."
    )
    remembered_picture_bytes: SizeOrNone = Field(
        default=32 * 2**20,
        description="Pictures stored last that stay in memory, to repair an object that is lost, bytes; 0 keeps none.",
    )
    sweep_interval_s: SecondsOrNone = Field(
        default=3600.0,
        description="Pause between two sweeps of the object store, seconds; 0: "
        "only `python -m services.generation.sweep` sweeps.",
    )
    sweep_grace_s: Annotated[Seconds, at_least(60)] = Field(
        default=900.0,
        description="How long an object that no group refers to is left, seconds; longer than any round.",
    )
    groups_topic: Topic = Field(default=topics.GROUPS, description="Kafka topic of GroupGenerated.")
    user_embedding_address: Address = Field(default="localhost:50051", description="User embedding service, host:port.")
    ranking_address: Address = Field(default="localhost:50053", description="Ranking service, host:port.")
    service_timeout_s: Seconds = Field(default=10.0, description="Longest call to another service, seconds.")
    round_lease_s: Annotated[Seconds, at_least(1)] = Field(
        default=15.0,
        description="How long a round whose process died blocks a retry of its request_id, seconds.",
    )
    max_batch: Count = Field(default=32, description="Largest batch the models take (config.pbtxt).")
    max_image_bytes: Size = Field(default=10 * 2**20, description="Largest reference image, bytes.")
    max_image_pixels: Size = Field(default=25_000_000, description="Largest reference image, width × height.")
