"""Traces are taken over, begun, joined and told on; spans are recorded where a tracer is, and only there."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.trace import SpanKind, StatusCode

from contract import tracing
from tests.spans import SAMPLED, TRACE, is_child, linked, recorded, trace_of

FORM = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
MALFORMED = [
    "",
    "garbage",
    SAMPLED.upper(),
    SAMPLED.replace("00-4bf", "01-4bf"),
    SAMPLED + "-00",
    f"00-{'0' * 32}-00f067aa0ba902b7-01",
    f"00-{TRACE}-{'0' * 16}-01",
    None,
]


def other(number: int, flags: str = "01") -> str:
    """The traceparent of another trace."""
    return f"00-{number:032x}-00f067aa0ba902b7-{flags}"


def test_without_a_tracer_the_trace_is_there_and_nothing_is_recorded() -> None:
    assert (tracing.trace_id(), tracing.traceparent(), tracing.metadata()) == ("", None, None)
    with tracing.entry("call", [SAMPLED]) as around:
        assert (tracing.trace_id(), tracing.traceparent(), tracing.exemplar()) == (TRACE, SAMPLED, None)
        with tracing.span("work", {"perfusion.rows": 3}) as inside:
            assert inside is around and not inside.is_recording()
    with tracing.entry("call"):
        begun = tracing.traceparent()
        assert begun is not None and FORM.fullmatch(begun) and begun.endswith("-00")
    assert tracing.outcomes() == {}


@pytest.mark.parametrize("came", MALFORMED)
def test_what_is_malformed_begins_a_trace(came: str | None) -> None:
    for _ in range(2):
        with tracing.entry("call", [came]):
            assert len(tracing.trace_id()) == 32 and tracing.trace_id() != TRACE


@given(st.text(max_size=80))
def test_no_text_that_a_caller_sends_breaks_a_call(came: str) -> None:
    with tracing.entry("call", [tracing.of([("traceparent", came)])]):
        assert FORM.fullmatch(tracing.traceparent() or "")


def test_a_record_or_a_call_says_its_trace_in_bytes_or_text() -> None:
    assert tracing.of([("a", b"b"), ("traceparent", SAMPLED.encode())]) == SAMPLED
    assert tracing.of((("traceparent", SAMPLED),)) == SAMPLED
    assert tracing.of([("traceparent", b"\xff")]) == "ÿ"
    assert tracing.of(None) is None and tracing.of([("a", "b")]) is None


def test_a_piece_of_work_is_inside_its_entry_which_goes_on_where_the_caller_was() -> None:
    with recorded() as spans:
        with tracing.entry("call", [SAMPLED]) as call:
            with tracing.span("work", {"perfusion.rows": 3}):
                sent = tracing.traceparent()
            assert tracing.traceparent() == tracing.traceparent(call)
        work, served = spans.one("work"), spans.one("call")
    assert trace_of(served) == TRACE and served.parent is not None
    assert f"{served.parent.span_id:016x}" == SAMPLED.split("-")[2]
    assert is_child(work, served) and work.attributes == {"perfusion.rows": 3}
    assert sent is not None and work.context is not None and f"-{work.context.span_id:016x}-" in sent
    assert (served.kind, work.kind) == (SpanKind.SERVER, SpanKind.INTERNAL)


def test_work_outside_of_any_trace_is_not_recorded() -> None:
    with recorded() as spans:
        with tracing.span("a poll"):
            assert tracing.traceparent() is None
        assert spans.all() == []


def test_a_batch_goes_on_in_the_first_recorded_trace_and_links_to_the_others() -> None:
    came = [None, other(1, "00"), other(2), other(3), "garbage", other(2), other(4)]
    with recorded() as spans:
        with tracing.entry("batch", iter(came), kind=SpanKind.CONSUMER):
            pass
        batch = spans.one("batch")
    assert trace_of(batch) == f"{2:032x}"
    assert linked(batch) == {f"{3:032x}", f"{4:032x}"}


def test_links_are_bounded_and_no_more_is_read_than_is_needed() -> None:
    read = []

    def endless() -> object:
        number = 0
        while True:
            number += 1
            read.append(number)
            yield other(number)

    with recorded() as spans:
        with tracing.entry("batch", endless()):  # type: ignore[arg-type]
            pass
        assert len(spans.one("batch").links) == tracing.MOST_LINKS
    assert len(read) == tracing.MOST_LINKS + 1
    with tracing.entry("batch", endless()):  # type: ignore[arg-type]
        pass
    assert len(read) == tracing.MOST_LINKS + 2, "nothing is recorded, and one trace is enough"


def test_callers_say_which_of_their_traces_are_recorded_and_the_share_is_of_those_that_begin_here() -> None:
    with recorded(share=1e-9) as spans:
        for came in (SAMPLED, other(7, "00"), None):
            with tracing.entry(f"call {came}", [came]), tracing.span("work"):
                told = tracing.traceparent() or ""
                assert told.endswith("-01") == (came == SAMPLED) and (tracing.exemplar() is not None) == (
                    came == SAMPLED
                )
        assert {span.name for span in spans.all()} == {f"call {SAMPLED}", "work"}


def test_a_failure_is_marked_by_its_kind_and_says_nothing_of_its_message() -> None:
    with recorded() as spans:
        with (
            pytest.raises(ValueError, match="red"),
            tracing.entry("batch", kind=SpanKind.CONSUMER),
            tracing.span("work"),
        ):
            raise ValueError("red dress for ada@example.com")
        with pytest.raises(KeyError), tracing.entry("call"):
            raise KeyError("how a call ended, its server says")
        found = {span.name: span for span in spans.all()}
    for name in ("work", "batch"):
        assert found[name].attributes == {"error.type": "ValueError"}
        assert found[name].status.status_code is StatusCode.ERROR and found[name].status.description is None
        assert not found[name].events
    assert found["call"].status.status_code is StatusCode.UNSET
    assert "ada" not in "".join(span.to_json() for span in found.values())
