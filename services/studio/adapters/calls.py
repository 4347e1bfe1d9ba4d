"""Calls of the other services, each for one merchant: the studio's token may name many, the call names one.

It knows tokens, deadlines, and what a service's error is among ours. It does not know any service's methods.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import grpc
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo

from contract import tracing
from services.runtime import errors
from services.runtime.callers import ACTING_FOR
from services.runtime.certificates import marks
from services.runtime.clients import calling
from services.runtime.statuses import details_of, violations_of

_log = logging.getLogger(__name__)

_ERRORS: Mapping[grpc.StatusCode, type[errors.ServiceError]] = {
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDenied,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ResourceExhausted,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
}
_GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED, grpc.StatusCode.CANCELLED)
NOBODY = ""  # a call that is for no merchant reaches none
Answer = TypeVar("Answer")


class Token:
    """The studio's token, read again when its file changes; "" without a file, in clear text."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._seen: object = None
        self._token = ""

    def current(self) -> str:
        if self._file is not None and (seen := marks(self._file)) != self._seen:
            try:
                self._token = self._file.read_text(encoding="utf-8").strip()
            except OSError as error:
                raise errors.Unavailable("token", f"cannot be read: {error.strerror}") from error
            self._seen = seen
        return self._token


class Calls:
    """Of one service, by its name for people."""

    def __init__(self, name: str, token: Token, *, timeout_s: float) -> None:
        self.name = name
        self.timeout_s = timeout_s
        self._token = token

    async def call(self, method: Callable[..., Awaitable[Answer]], request: object, user_id: str) -> Answer:
        """The answer, to a call for one merchant or for NOBODY; raises a ServiceError as the service answered."""
        with calling(self.name, request):
            try:
                return await method(request, timeout=self.timeout_s, metadata=self.metadata(user_id))
            except grpc.aio.AioRpcError as error:
                raise self.translated(error) from error

    def metadata(self, user_id: str) -> tuple[tuple[str, str | bytes], ...]:
        """What a call for a merchant carries."""
        found: list[tuple[str, str | bytes]] = [*(tracing.metadata() or ())]
        if token := self._token.current():
            found += [("authorization", f"Bearer {token}"), (ACTING_FOR, user_id.encode())]
        return tuple(found)

    def translated(self, error: grpc.aio.AioRpcError) -> Exception:
        """What the service answered, as an error of ours; a status that nobody can have caused stays what it is."""
        code = error.code()
        if code == grpc.StatusCode.INVALID_ARGUMENT and (violations := violations_of(error.trailing_metadata())):
            return errors.InvalidArgument(*violations)
        found: errors.ServiceError
        if code in _GONE:
            found = errors.Unavailable(self.name)
        elif code is grpc.StatusCode.UNAUTHENTICATED:
            _log.error("%s does not let the studio in, see PERFUSION_TOKEN: %s", self.name, error.details())
            found = errors.Unavailable(self.name, "does not let the studio in")
        elif code in _ERRORS:
            found = _ERRORS[code](error.details() or "")
        else:
            return error
        for detail in details_of(error.trailing_metadata()):
            if isinstance(detail, RetryInfo) and found.retry_after_s is not None:
                found.retry_after_s = detail.retry_delay.ToTimedelta().total_seconds()
            elif isinstance(detail, ErrorInfo):
                found.metadata.update(detail.metadata)
        return found
