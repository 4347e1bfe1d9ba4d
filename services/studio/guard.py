"""What every request to the page passes: where it may come from, how large it may be, and the answer's headers.

It knows HTTP and browsers' rules. It does not know what a page does.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.trace import Span, StatusCode
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse

from contract import tracing
from contract.topics import HEADER_TRACEPARENT
from services.studio.metrics import StudioMetrics

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

FORM_BYTES = 12 * 2**20  # a reference image of 10 MiB, and the form around it
OPEN_BYTES = 2**16  # where nobody has to log in
FORM_S = 60.0  # from a form's first byte to its last; a reference image of 10 MiB at 1.4 Mbit/s
OPEN = ("/shop/", "/orders", "/payments", "/rate/")  # how these paths begin
PAYMENTS = "/payments"  # what a program posts, no page: its signature says whose it is
SAFE = ("GET", "HEAD")
METHODS = (*SAFE, "POST")
EVENTS = "text/event-stream"
GONE, FAULT = 499, 500  # as the metrics have an answer that never began: its browser has gone, or a fault of ours
# No script, style or picture of another host, none inside the page, and nobody frames it. blob: shows a picture that
# the merchant has chosen and not sent yet.
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; "
    "form-action 'self'; frame-ancestors 'none'",
    "referrer-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
UNSTORED = {"cache-control": "private, no-store"}  # another merchant may use the same browser next

_log = logging.getLogger(__name__)


class Guard:
    """Around the whole application."""

    def __init__(self, app: App, public_url: str, metrics: StudioMetrics) -> None:
        self._app = app
        self._metrics = metrics
        parts = urlsplit(public_url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._host = parts.netloc
        self._is_encrypted = parts.scheme == "https"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        came = headers.get(HEADER_TRACEPARENT)
        with tracing.entry(_method(scope), [came], attributes={"http.request.method": _method(scope)}) as span:
            await self._serve(scope, receive, send, headers, span)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, headers: Headers, span: Span) -> None:
        started, status, kind = time.monotonic(), GONE, ""

        async def answered(message: Message) -> None:
            nonlocal status, kind
            if message["type"] == "http.response.start":
                status = message["status"]
                answer = MutableHeaders(scope=message)
                kind = answer.get("content-type", "")
                for name, value in (HEADERS | {"trace-id": tracing.trace_id()}).items():
                    answer[name] = value
                if not answer.get("cache-control", "").startswith("public"):  # what is the same for everybody
                    answer.update(UNSTORED)
                if self._is_encrypted:
                    answer.setdefault("strict-transport-security", "max-age=31536000")
            await send(message)

        try:
            if (problem := self._problem(scope["method"], scope["path"], headers)) is not None:
                await PlainTextResponse(problem, status_code=403)(scope, receive, answered)
                return
            most = OPEN_BYTES if scope["path"].startswith(OPEN) else FORM_BYTES
            await self._app(scope, _bounded(receive, most, FORM_S), answered)
        except Exception:
            status = FAULT
            raise
        finally:
            took_s, route = time.monotonic() - started, getattr(scope.get("route"), "path", "unknown")
            _conclude(span, _method(scope), route, status)
            self._metrics.handled.labels(route, str(status)).inc()
            if not kind.startswith(EVENTS):
                self._metrics.latency_s.labels(route).observe(took_s)
            told = {"status": status, "latency_s": round(took_s, 4), "trace_id": tracing.trace_id()}
            _log.info("%s %s", scope["method"], route, extra=told)

    def _problem(self, method: str, path: str, headers: Headers) -> str | None:
        """Why a request is refused: it was made for another host, or another site's page makes it."""
        if headers.get("host", "") != self._host:
            return f"this is {self._origin}"
        if method in SAFE or path == PAYMENTS:
            return None
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site not in (None, "same-origin") or origin not in (None, self._origin):
            return "another site's page sent this form"
        return None if site or origin else "the browser does not say which page sent this form"


def _method(scope: Scope) -> str:
    """As traces name it, whatever a browser calls it."""
    return str(scope["method"]) if scope["method"] in METHODS else "_OTHER"


def _conclude(span: Span, method: str, route: str, status: int) -> None:
    """By the route's pattern: a path may hold what is nobody else's business."""
    span.update_name(f"{method} {route}")
    span.set_attributes({"http.route": route, "http.response.status_code": status})
    if status >= FAULT:
        span.set_attribute("error.type", str(status))
        span.set_status(StatusCode.ERROR)


def _bounded(receive: Receive, most: int, within_s: float) -> Receive:
    """What comes may have so many bytes and take so long; whether the browser goes is then waited for without end."""
    read, is_whole, until = 0, False, time.monotonic() + within_s

    async def bounded() -> Message:
        nonlocal read, is_whole
        try:
            async with asyncio.timeout(None if is_whole else max(0.0, until - time.monotonic())):
                message = await receive()
        except TimeoutError:
            raise HTTPException(408, f"the form took longer than {within_s:g} s") from None
        read += len(message.get("body", b""))
        if read > most:
            raise HTTPException(413, f"the form is larger than {most // 2**10} KiB")
        is_whole = not message.get("more_body", False)
        return message

    return bounded
