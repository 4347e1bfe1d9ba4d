"""The spans of this process, as a test looks at them."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from contract.spans import Recording

SAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"  # a caller's traceparent
TRACE = SAMPLED.split("-")[1]


class Recorded:
    """All that ended since it began, each trace recorded."""

    def __init__(self, share: float = 1.0) -> None:
        self._exporter = InMemorySpanExporter()
        self.recording = Recording("test", self._exporter, share)

    def all(self) -> list[ReadableSpan]:
        self.recording.flush()
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        [span] = self.named(name)
        return span


@contextmanager
def recorded(share: float = 1.0) -> Iterator[Recorded]:
    spans = Recorded(share)
    try:
        yield spans
    finally:
        spans.recording.close()


def trace_of(span: ReadableSpan) -> str:
    assert span.context is not None
    return f"{span.context.trace_id:032x}"


def is_child(span: ReadableSpan, of: ReadableSpan) -> bool:
    """In the same trace, and begun by it."""
    assert of.context is not None
    return trace_of(span) == trace_of(of) and span.parent is not None and span.parent.span_id == of.context.span_id


def linked(span: ReadableSpan) -> set[str]:
    """The traces that it has links to."""
    return {f"{link.context.trace_id:032x}" for link in span.links}
