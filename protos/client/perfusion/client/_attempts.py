"""One logical call: as many attempts as its time allows, under one deadline.

It knows when trying again helps and how long to wait. It does not know what is called. Every method of the API may be
tried again: writes carry a request_id, which stays the same over the attempts.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import grpc

from perfusion.client._errors import RetryableError, error_of

Request = TypeVar("Request")
Response = TypeVar("Response")
Request_contra = TypeVar("Request_contra", contravariant=True)
Response_co = TypeVar("Response_co", covariant=True)


@dataclass(frozen=True)
class Backoff:
    """How long to wait after a failed attempt. After n failures that do not say how long: up to first_s × factor^(n-1).

    The wait is drawn between half of that and all of it, so that many clients do not come back at once.
    """

    first_s: float = 0.2
    factor: float = 2.0
    longest_s: float = 5.0
    spread: float = 0.2  # what is added at most to a service's own RetryInfo, as a share of it

    def wait_s(self, failures: int, retry_after_s: float | None) -> float:
        """Seconds until the next attempt, after `failures` of them in a row, 1 or more."""
        if retry_after_s is not None:
            return retry_after_s * (1 + random.uniform(0, self.spread))
        most_s = min(self.longest_s, self.first_s * self.factor ** min(failures - 1, 60))
        return most_s * random.uniform(0.5, 1)


class Attempts:
    """Counts the attempts of one logical call that may take `timeout_s` in all, waits included."""

    def __init__(self, timeout_s: float, backoff: Backoff, wait: Callable[[float], object] = time.sleep) -> None:
        self._end = time.monotonic() + timeout_s
        self._backoff = backoff
        self._wait = wait
        self._failures = 0

    def left_s(self) -> float:
        """What the next attempt may take, seconds; 0 when there is no time left."""
        return max(0.0, self._end - time.monotonic())

    def succeeded(self) -> None:
        """Work got on: the next failure is the first of its row."""
        self._failures = 0

    def failed(self, failure: grpc.RpcError) -> None:
        """Waits, if another attempt may help and there is time for it; raises the typed error otherwise."""
        error = error_of(failure)
        self._failures += 1
        wait_s = self._backoff.wait_s(self._failures, error.retry_after_s)
        if not isinstance(error, RetryableError) or wait_s >= self.left_s():
            raise error from failure
        self._wait(wait_s)


class UnaryMethod(Protocol[Request_contra, Response_co]):
    """A unary method of a stub."""

    def __call__(
        self, request: Request_contra, timeout: float | None = None, *, wait_for_ready: bool | None = None
    ) -> Response_co: ...


def call(method: UnaryMethod[Request, Response], request: Request, attempts: Attempts, *, wait: bool) -> Response:
    """Calls a unary method until it answers. `wait` is gRPC's wait_for_ready."""
    while True:
        try:
            return method(request, timeout=attempts.left_s(), wait_for_ready=wait)
        except grpc.RpcError as failure:
            attempts.failed(failure)
