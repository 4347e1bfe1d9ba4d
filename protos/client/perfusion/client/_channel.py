"""How a client's channels are set: sizes, keepalive, reconnection, encryption.

It knows gRPC's options and nothing of the services.
"""

from __future__ import annotations

import grpc

MAX_MESSAGE_BYTES = 32 * 2**20  # what the services take, unless their operator says otherwise
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    # A dead connection is noticed within 80 s while a call is in flight, and no ping is sent otherwise.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.keepalive_permit_without_calls", 0),
    # Calls are shared out among all addresses of a name, and a new one is looked up at once.
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
    # A service that comes back is found within 2 s.
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


def open_channel(address: str, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    """A channel to host:port; not encrypted without credentials. It connects with the first call."""
    if credentials is None:
        return grpc.insecure_channel(address, options=_OPTIONS)
    return grpc.secure_channel(address, credentials, options=_OPTIONS)
