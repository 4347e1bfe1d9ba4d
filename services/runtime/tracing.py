"""The W3C trace context of the call being served: taken from its `traceparent` metadata, or begun here.

It joins log lines, events and outgoing calls of one round. It does not export spans.
"""

import re
import secrets
from collections.abc import Iterable
from contextvars import ContextVar

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")
_trace: ContextVar[tuple[str, str] | None] = ContextVar("trace", default=None)


def begin(metadata: Iterable[tuple[str, str | bytes]] | None) -> None:
    """Takes over the caller's trace, or begins a new one when there is none or it is malformed."""
    for key, value in metadata or ():
        match = _TRACEPARENT.fullmatch(value) if key == "traceparent" and isinstance(value, str) else None
        if match:
            _trace.set((match[1], match[2]))
            return
    _trace.set((secrets.token_hex(16), "00"))


def trace_id() -> str:
    """The trace id, or "" outside of any call."""
    trace = _trace.get()
    return trace[0] if trace else ""


def traceparent() -> str | None:
    """A header for the next outgoing call or event, with a span id of its own; None outside of any call."""
    trace = _trace.get()
    return f"00-{trace[0]}-{secrets.token_hex(8)}-{trace[1]}" if trace else None
