"""Spans reach a file or a collector; an exporter that hangs, fails or is away costs no call anything."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from contract import tracing
from contract.spans import Files, Recording, Renewed, exporter_to
from tests.spans import SAMPLED, TRACE


class Hanging(SpanExporter):
    """Takes a batch, and does not come back until it is let go."""

    def __init__(self) -> None:
        self.entered, self.go_on = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        self.go_on.wait(60)
        return SpanExportResult.SUCCESS


class Scripted(SpanExporter):
    """Does what it is told to."""

    def __init__(self, *outcomes: SpanExportResult | Exception) -> None:
        self.outcomes = list(outcomes)
        self.batches = 0
        self.shut = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.batches += 1
        outcome = self.outcomes.pop(0) if self.outcomes else SpanExportResult.SUCCESS
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def shutdown(self) -> None:
        self.shut = True


class Collector(TraceServiceServicer):
    """An OpenTelemetry collector's side of OTLP."""

    def __init__(self) -> None:
        self.spans: list[Any] = []

    def Export(self, request: ExportTraceServiceRequest, context: object) -> ExportTraceServiceResponse:
        self.spans += [span for r in request.resource_spans for s in r.scope_spans for span in s.spans]
        return ExportTraceServiceResponse()


@pytest.fixture
def collector() -> Iterator[tuple[Collector, int]]:
    made, server = Collector(), grpc.server(ThreadPoolExecutor(1))
    add_TraceServiceServicer_to_server(made, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield made, port
    server.stop(None).wait()


def work(times: int) -> None:
    for number in range(times):
        with tracing.entry("call", [SAMPLED], attributes={"perfusion.number": number}):
            pass


def test_an_exporter_that_hangs_slows_no_call_and_what_it_does_not_take_is_counted() -> None:
    exporter = Hanging()
    recording = Recording("test", exporter, 1.0, most_waiting=8)
    try:
        work(8)
        assert exporter.entered.wait(30)
        began = time.monotonic()
        work(1000)
        assert time.monotonic() - began < 10, "each would wait for the exporter's 60 s"
        assert tracing.outcomes() == {"exported": 0, "failed": 0, "dropped": 1000}
        began = time.monotonic()
        recording.close()
        assert time.monotonic() - began < 20, "the end of a process does not wait for it either"
    finally:
        exporter.go_on.set()


def test_what_could_not_be_exported_is_counted_and_the_next_is_tried(caplog: pytest.LogCaptureFixture) -> None:
    exporter = Scripted(OSError("no route"), SpanExportResult.FAILURE)
    recording = Recording("test", exporter, 1.0)
    for _ in range(3):
        work(2)
        recording.flush()
    assert tracing.outcomes() == {"exported": 2, "failed": 4, "dropped": 0}
    recording.close()
    assert exporter.shut and tracing.outcomes() == {}


def test_a_collector_gets_them(collector: tuple[Collector, int]) -> None:
    made, port = collector
    recording = Recording("test", exporter_to(f"http://127.0.0.1:{port}", "test"), 1.0)
    work(3)
    recording.close()
    assert [span.trace_id.hex() for span in made.spans] == [TRACE] * 3


def test_a_collector_that_is_not_there_is_a_failure(caplog: pytest.LogCaptureFixture) -> None:
    exporter = exporter_to("http://127.0.0.1:1", "test")
    recording = Recording("test", exporter, 1.0)
    work(1)
    recording.flush()
    assert tracing.outcomes() == {"exported": 0, "failed": 1, "dropped": 0}
    recording.close()


def test_a_renewed_certificate_opens_another_exporter() -> None:
    opened, certificate = [Scripted(), Scripted()], [object()]
    waiting = list(opened)
    renewed = Renewed(lambda: waiting.pop(0), lambda: certificate[0])
    renewed.export(())
    certificate[0] = object()
    renewed.export(())
    renewed.export(())
    assert [each.batches for each in opened] == [1, 2] and [each.shut for each in opened] == [True, False]


def test_a_file_has_a_line_of_otlps_json_for_each_batch(tmp_path: Path) -> None:
    recording = Recording("rank", exporter_to(f"file://{tmp_path}/traces", "rank"), 1.0)
    for number in range(2):
        with tracing.entry("call", [SAMPLED]), tracing.span("work", {"perfusion.rows": number}):
            pass
        recording.flush()
    recording.close()
    lines = [json.loads(line) for line in (tmp_path / "traces" / "rank.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    [of_process] = lines[1]["resourceSpans"]
    assert of_process["resource"]["attributes"] == [{"key": "service.name", "value": {"stringValue": "rank"}}]
    work, call = of_process["scopeSpans"][0]["spans"]
    assert (work["traceId"], work["parentSpanId"], call["parentSpanId"]) == (
        TRACE,
        call["spanId"],
        SAMPLED.split("-")[2],
    )
    ParseDict(lines[1], ExportTraceServiceRequest())  # names and kinds are OTLP's


def test_a_folder_that_cannot_be_written_is_a_failure(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "traces").write_text("a file")
    recording = Recording("rank", Files(tmp_path / "traces", "rank"), 1.0)
    work(1)
    recording.flush()
    assert tracing.outcomes()["failed"] == 1 and "could not write spans" in caplog.text
    recording.close()
