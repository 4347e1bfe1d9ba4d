"""A trace's picture: its spans in order, from files of several processes, with long gaps cut."""

from pathlib import Path

import pytest
from PIL import Image

from contract import tracing
from contract.spans import Recording, exporter_to
from deploy.demo.waterfall import CUT_S, Axis, NoTrace, Span, draw, read_spans, trace_of


def span(name: str, begin_s: float, end_s: float, parent: str = "") -> Span:
    return Span("t", name, parent, name, "process", begin_s, end_s, {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A round of two processes, and a trace of one span."""
    for process, came in (("client", None), ("generation", "of the client")):
        recording = Recording(process, exporter_to(f"file://{tmp_path}", process), 1.0)
        if came is None:
            with tracing.entry("small"):
                pass
            with tracing.entry("round"), tracing.span("call"):
                passed_on = tracing.traceparent()
        else:
            with tracing.entry("serve", [passed_on]), tracing.span("denoise", {"perfusion.step": 2}):
                pass
        recording.close()
    return tmp_path


def test_spans_of_all_processes_come_below_those_that_began_them(folder: Path) -> None:
    spans = trace_of(list(read_spans(folder)), None, folder)
    assert [(span.process, span.name) for span in spans] == [
        ("client", "round"),
        ("client", "call"),
        ("generation", "serve"),
        ("generation", "denoise"),
    ]
    assert [span.parent for span in spans] == ["", *(span.span for span in spans[:-1])]
    assert spans[3].attributes == {"perfusion.step": "2"} and "step 2, " in spans[3].label


def test_a_trace_that_is_named_is_the_one_or_none(folder: Path) -> None:
    all_spans = list(read_spans(folder))
    [small] = [span for span in all_spans if span.name == "small"]
    assert trace_of(all_spans, small.trace, folder) == [small]
    with pytest.raises(NoTrace, match="2 traces, and not 77"):
        trace_of(all_spans, "77", folder)
    with pytest.raises(NoTrace, match="0 traces"):
        trace_of([], None, folder)


def test_a_long_time_of_nothing_is_cut_and_a_short_one_is_not() -> None:
    axis = Axis([span("a", 100, 101), span("b", 100.5, 102), span("c", 102.25, 103), span("d", 113, 114)])
    assert [axis.at(moment) for moment in (100, 102, 102.25, 103, 113, 114)] == pytest.approx(
        [0, 2, 2.25, 3, 3 + CUT_S, 4 + CUT_S]
    )
    assert axis.cuts == [(pytest.approx(3 + CUT_S / 2), 10)]


def test_it_is_drawn(folder: Path, tmp_path: Path) -> None:
    draw(trace_of(list(read_spans(folder)), None, folder), tmp_path / "pictures" / "trace.png")
    with Image.open(tmp_path / "pictures" / "trace.png") as picture:
        assert picture.width > 800 and len(set(picture.convert("L").tobytes())) > 50
