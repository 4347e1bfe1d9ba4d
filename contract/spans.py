"""Where recorded spans go: to an OpenTelemetry collector (OTLP over gRPC), or into a folder, a file of each process.

Nobody waits for them. What ends is put into a bounded queue; a thread takes it out in batches. While a collector is
away or slow the queue fills, and more spans are dropped and counted. It knows OpenTelemetry's SDK; not what is traced.
"""

import base64
import json
import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from contract import tracing

TO, SHARE = "PERFUSION_TRACES_TO", "PERFUSION_TRACES_SHARE"  # variables of the environment
FILES = "file://"
MOST_WAITING = 4096  # spans
BATCH = 512
PAUSE_S = 1.0  # longest wait for a batch to fill
EXPORT_S = 5.0  # for a collector to take a batch
LAST_S = 2.0  # for the last spans, when a process ends
_LIMITS = SpanLimits(max_span_attributes=32, max_links=tracing.MOST_LINKS, max_span_attribute_length=200)
_IDS = frozenset({"traceId", "spanId", "parentSpanId"})

_log = logging.getLogger(__name__)


class Recording:
    """Records this process's spans from now on, until `close`.

    Args:
        service: as traces name the process.
        share: of the traces that begin here. Of others, those are recorded that their beginner records.
    """

    def __init__(self, service: str, exporter: SpanExporter, share: float, most_waiting: int = MOST_WAITING) -> None:
        self._queue = _Queue(exporter, most_waiting)
        sampler = ParentBased(TraceIdRatioBased(share))
        self._provider = TracerProvider(
            sampler, Resource({"service.name": service}), shutdown_on_exit=False, span_limits=_LIMITS
        )
        self._provider.add_span_processor(self._queue)
        tracing.use(self._provider.get_tracer("perfusion"), lambda: self._queue.outcomes)

    def flush(self) -> None:
        """Returns when what has ended is exported, or has failed to be."""
        self._provider.force_flush()

    def close(self) -> None:
        """Records nothing more; what has ended is exported if that does not take long."""
        tracing.use(None)
        closing = threading.Thread(target=self._provider.shutdown, daemon=True, name="last spans")
        closing.start()
        closing.join(LAST_S)


class _Queue(BatchSpanProcessor):
    """The library's, which lets a new span in only where there is room, and counts."""

    def __init__(self, exporter: SpanExporter, most: int) -> None:
        super().__init__(
            _Counting(exporter, self),
            max_queue_size=most,
            schedule_delay_millis=1000 * PAUSE_S,
            max_export_batch_size=min(BATCH, most),
        )
        self.outcomes = {"exported": 0, "failed": 0, "dropped": 0}
        self._most = most
        self._waiting = 0
        self._lock = threading.Lock()

    def on_end(self, span: ReadableSpan) -> None:
        with self._lock:
            if self._waiting >= self._most:
                self.outcomes["dropped"] += 1
                return
            self._waiting += 1
        super().on_end(span)

    def gone(self, spans: int, outcome: str) -> None:
        with self._lock:
            self._waiting -= spans
            self.outcomes[outcome] += spans


class _Counting(SpanExporter):
    """Another exporter, whose failures it counts; runs in the queue's thread."""

    def __init__(self, exporter: SpanExporter, queue: _Queue) -> None:
        self._exporter = exporter
        self._queue = queue

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = SpanExportResult.FAILURE
        try:
            result = self._exporter.export(spans)
        except Exception:
            _log.exception("could not export spans")
        self._queue.gone(len(spans), "exported" if result is SpanExportResult.SUCCESS else "failed")
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


def exporter_to(to: str, service: str, credentials: Any = None) -> SpanExporter:
    """By the setting: file://FOLDER, https://HOST:PORT, or http://HOST:PORT of this machine.

    Args:
        credentials: grpc.ChannelCredentials for https; None: the system's authorities, or those that the library's own
            variables (OTEL_EXPORTER_OTLP_CERTIFICATE and others) name.
    """
    if to.startswith(FILES):
        return Files(Path(to.removeprefix(FILES)), service)
    # It loads gRPC, which a process without a collector does not need.
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(to, insecure=to.startswith("http://"), credentials=credentials, timeout=EXPORT_S)


class Renewed(SpanExporter):
    """An exporter that is opened anew when its certificate is another one.

    Args:
        certificate: what it is opened with now; the same object while it has not changed.
    """

    def __init__(self, open_one: Callable[[], SpanExporter], certificate: Callable[[], object]) -> None:
        self._open, self._certificate = open_one, certificate
        self._opened_with = certificate()
        self._exporter = open_one()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if (now := self._certificate()) is not self._opened_with:
            self._exporter.shutdown()
            self._opened_with, self._exporter = now, self._open()
        return self._exporter.export(spans)

    def shutdown(self) -> None:
        self._exporter.shutdown()


class Files(SpanExporter):
    """FOLDER/SERVICE.jsonl, as OpenTelemetry's file exporters write it: a line of OTLP's JSON for each batch."""

    def __init__(self, folder: Path, service: str) -> None:
        self._file = folder / f"{service}.jsonl"

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        line = json.dumps(_with_hexadecimal_ids(MessageToDict(encode_spans(spans), use_integers_for_enums=True)))
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("ab") as file:
                file.write(f"{line}\n".encode())  # at once: several processes may write to one file
        except OSError as error:
            _log.warning("could not write spans to %s: %s", self._file, error.strerror)
            return SpanExportResult.FAILURE
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Nothing is open."""


def _with_hexadecimal_ids(value: Any) -> Any:
    """OTLP's JSON differs in this from protobuf's, which has bytes in base64."""
    if isinstance(value, list):
        return [_with_hexadecimal_ids(each) for each in value]
    if isinstance(value, dict):
        return {
            name: base64.b64decode(each).hex() if name in _IDS else _with_hexadecimal_ids(each)
            for name, each in value.items()
        }
    return value
