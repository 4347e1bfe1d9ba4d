"""A real gRPC server in this process, whose servicers do what a test tells them, and the errors that services send.

The details of errors are built with googleapis-common-protos, as the services do, so the client's own reading of them
is checked against the real messages.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from perfusion.v1 import (
    feedback_service_pb2_grpc,
    generation_service_pb2_grpc,
    ranking_service_pb2_grpc,
    user_embedding_service_pb2_grpc,
)

Handler = Callable[[Any, grpc.ServicerContext], Any]
_SERVICES = (
    (
        feedback_service_pb2_grpc.FeedbackServiceServicer,
        feedback_service_pb2_grpc.add_FeedbackServiceServicer_to_server,
    ),
    (
        generation_service_pb2_grpc.GenerationServiceServicer,
        generation_service_pb2_grpc.add_GenerationServiceServicer_to_server,
    ),
    (ranking_service_pb2_grpc.RankingServiceServicer, ranking_service_pb2_grpc.add_RankingServiceServicer_to_server),
    (
        user_embedding_service_pb2_grpc.UserEmbeddingServiceServicer,
        user_embedding_service_pb2_grpc.add_UserEmbeddingServiceServicer_to_server,
    ),
)


@contextmanager
def serving(credentials: grpc.ServerCredentials | None = None, **handlers: Handler) -> Iterator[str]:
    """Serves the API's methods by name, `serving(Rank=…)`; the address, on a port that the system chose."""
    server = grpc.server(ThreadPoolExecutor(8))
    for servicer, add in _SERVICES:
        methods = {name: staticmethod(handler) for name, handler in handlers.items() if hasattr(servicer, name)}
        add(type(servicer.__name__, (servicer,), methods)(), server)
    here = "localhost:0"
    port = server.add_secure_port(here, credentials) if credentials else server.add_insecure_port(here)
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(None).wait()


def certified(folder: Path, clients: Path) -> grpc.ServerCredentials:
    """Of the certificate in a folder; callers need one of the authority in a file."""
    key, certificate = ((folder / name).read_bytes() for name in ("tls.key", "tls.crt"))
    return grpc.ssl_server_credentials([(key, certificate)], clients.read_bytes(), True)


def refuse(
    context: grpc.ServicerContext,
    code: grpc.StatusCode,
    *details: Message,
    message: str = "refused",
    trace_id: str = "",
) -> NoReturn:
    """Ends the call as the services' interceptor does."""
    status = status_pb2.Status(code=code.value[0], message=message, details=[_packed(each) for each in details])
    metadata: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status.SerializeToString())]
    context.set_trailing_metadata((*metadata, ("trace-id", trace_id)) if trace_id else tuple(metadata))
    context.abort(code, message)


def info(reason: str, domain: str = "perfusion.v1", **metadata: str) -> Message:
    return error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata)


def retry_info(seconds: float) -> Message:
    delay = Duration()
    delay.FromMilliseconds(round(seconds * 1000))
    return error_details_pb2.RetryInfo(retry_delay=delay)


def bad_request(*violations: tuple[str, str]) -> Message:
    named = [error_details_pb2.BadRequest.FieldViolation(field=f, description=d) for f, d in violations]
    return error_details_pb2.BadRequest(field_violations=named)


def _packed(message: Message) -> AnyMessage:
    packed = AnyMessage()
    packed.Pack(message)
    return packed
