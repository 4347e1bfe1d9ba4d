"""A thin client of PerFusion: typed errors, retries, deadlines, and rounds that survive a cut connection.

    from perfusion.client import PerFusion

    addresses = {"user_embedding": "localhost:50051", "generation": "localhost:50052", "feedback": "localhost:50054"}
    with PerFusion(**addresses, identity="build/local/client") as client:
        client.put_profile("store-1", {"style": "minimalist", "audience": ["teens"]})
        group = client.generate("store-1", "dress,v-neck").group()
        client.submit_feedback(group, [group.candidates[0].image_id])

It needs grpcio and protobuf alone. It does not know what a picture shows, and checks no field: the services do.
"""

from perfusion.client._attempts import Backoff
from perfusion.client._client import PerFusion, Settings
from perfusion.client._errors import (
    CallerError,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    MessageTooLarge,
    NotFound,
    PerFusionError,
    PermissionDenied,
    RequestIdReused,
    RetryableError,
    ServiceFault,
    TooManyCalls,
    Unauthenticated,
    Unavailable,
)
from perfusion.client._identity import Identity
from perfusion.client._round import Event, Round

__all__ = [
    "Backoff",
    "CallerError",
    "DeadlineExceeded",
    "Event",
    "FailedPrecondition",
    "Identity",
    "InvalidArgument",
    "MessageTooLarge",
    "NotFound",
    "PerFusion",
    "PerFusionError",
    "PermissionDenied",
    "RequestIdReused",
    "RetryableError",
    "Round",
    "ServiceFault",
    "Settings",
    "TooManyCalls",
    "Unauthenticated",
    "Unavailable",
]
