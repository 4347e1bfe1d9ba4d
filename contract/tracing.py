"""Spans of the work for one request, in every process that it reaches, and the W3C trace context that joins them.

`entry` is a process's part of a trace: a call that is served, records that were read. `span` is a piece of the work
inside it. Without a tracer nothing is recorded, at next to no cost, and the trace id is there all the same: logs,
answers and events carry it. contract.spans records and exports.

Attributes say ids, numbers and names of our own: neither what a person wrote nor who it is, and no error's message. It
knows OpenTelemetry's API; not what is traced.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from random import getrandbits

from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.util.types import AttributeValue

from contract.topics import HEADER_TRACEPARENT

DEFAULT_SHARE = 0.1  # of the traces that begin in a process, which it records
MOST_LINKS = 128  # of one span: of a batch's other traces, the first
Attributes = Mapping[str, AttributeValue]

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})")
_tracer: Tracer | None = None  # of this process; contract.spans sets both
_outcomes: Callable[[], Mapping[str, int]] = dict


def use(tracer: Tracer | None, outcomes: Callable[[], Mapping[str, int]] = dict) -> None:
    """Records spans with this tracer from now on; None records nothing."""
    global _tracer, _outcomes
    _tracer, _outcomes = tracer, outcomes


def outcomes() -> Mapping[str, int]:
    """How many spans were exported, failed to be, or were dropped; empty where none are recorded."""
    return _outcomes()


def of(metadata: Iterable[tuple[str, str | bytes]] | None) -> str | None:
    """The first `traceparent` among a call's metadata or a record's headers; None where there is none."""
    found = next((value for name, value in metadata or () if name == HEADER_TRACEPARENT), None)
    return found.decode("latin-1") if isinstance(found, bytes) else found


@contextmanager
def entry(
    name: str,
    came: Iterable[str | None] = (),
    *,
    kind: SpanKind = SpanKind.SERVER,
    attributes: Attributes | None = None,
) -> Iterator[Span]:
    """The part of a trace that begins here, current until its end.

    It continues the first trace that is recorded of those that `came`, and has links to the others, at most MOST_LINKS.
    Where none came it begins one.

    Args:
        came: values of `traceparent`; what is malformed counts as none.
        kind: whether a call is served, records are consumed, or the process does work of its own. Of a SERVER the
            caller says how it ended; else an exception marks the span as failed.
    """
    span = _started(name, came, kind, attributes)
    token = attach(set_span_in_context(span, Context()))
    try:
        yield span
    except BaseException as error:
        if kind is not SpanKind.SERVER:
            failed(span, error)
        raise
    finally:
        detach(token)
        span.end()


@contextmanager
def span(name: str, attributes: Attributes | None = None, *, kind: SpanKind = SpanKind.INTERNAL) -> Iterator[Span]:
    """A piece of the current trace's work, current until its end; nothing where the trace is not recorded."""
    around = get_current_span()
    if _tracer is None or not around.is_recording():
        yield around
        return
    made = _tracer.start_span(name, kind=kind, attributes=attributes)
    token = attach(set_span_in_context(made))
    try:
        yield made
    except BaseException as error:
        failed(made, error)
        raise
    finally:
        detach(token)
        made.end()


def begun(name: str, came: str, kind: SpanKind, attributes: Attributes | None = None) -> Span:
    """A span of the trace that came, which never is the current one; who asks for it ends it."""
    return _started(name, [came], kind, attributes)


def failed(span: Span, error: BaseException) -> None:
    """Marks a span by the kind of error alone: its message may quote a request."""
    if span.is_recording():
        span.set_attribute("error.type", type(error).__name__)
        span.set_status(StatusCode.ERROR)


def trace_id() -> str:
    """The trace id, or "" outside of any trace."""
    found = get_current_span().get_span_context()
    return f"{found.trace_id:032x}" if found.is_valid else ""


def traceparent(span: Span | None = None) -> str | None:
    """A span's, or the current one's: for the next outgoing call or event. None outside of any trace."""
    found = (span or get_current_span()).get_span_context()
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}" if found.is_valid else None


def metadata() -> tuple[tuple[str, str], ...] | None:
    """What an outgoing call carries; None outside of any trace."""
    value = traceparent()
    return ((HEADER_TRACEPARENT, value),) if value else None


def exemplar() -> dict[str, str] | None:
    """The label by which a metric names a trace; None where the trace is not recorded."""
    return {"trace_id": trace_id()} if get_current_span().is_recording() else None


def _started(name: str, came: Iterable[str | None], kind: SpanKind, attributes: Attributes | None) -> Span:
    parent, others = _taken_over(came)
    if _tracer is None:
        return NonRecordingSpan(parent or SpanContext(_id(128), _id(64), is_remote=False, trace_flags=TraceFlags(0)))
    context = Context() if parent is None else set_span_in_context(NonRecordingSpan(parent), Context())
    return _tracer.start_span(name, context, kind, attributes, [Link(other) for other in others])


def _taken_over(came: Iterable[str | None]) -> tuple[SpanContext | None, Iterable[SpanContext]]:
    """The trace to continue, and the others that are recorded."""
    first: SpanContext | None = None
    recorded: dict[int, SpanContext] = {}  # by trace
    for value in came:
        if (found := _context_of(value)) is None:
            continue
        first = first or found
        if _tracer is None:
            break
        if found.trace_flags.sampled:
            recorded.setdefault(found.trace_id, found)
        if len(recorded) > MOST_LINKS:
            break
    parent, *others = recorded.values() or (first,)
    return parent, [other for other in others if other is not None]


def _context_of(value: str | None) -> SpanContext | None:
    match = None if value is None else _TRACEPARENT.fullmatch(value)
    if match is None:
        return None
    trace, span, flags = (int(part, 16) for part in match.groups())
    return SpanContext(trace, span, is_remote=True, trace_flags=TraceFlags(flags))


def _id(bits: int) -> int:
    """Random, and not 0, which names nothing."""
    return getrandbits(bits) or 1
