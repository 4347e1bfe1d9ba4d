"""A trace as a picture: a bar for each span below the one that began it, coloured by its process.

Reads the files that contract.spans writes, or OpenTelemetry's file exporters: OTLP's JSON. Where nothing happens for
long, the axis is cut. Knows nothing of what was traced.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.patches import Rectangle

matplotlib.use("Agg")
from matplotlib import pyplot as plt

ROW_INCHES, WIDTH_INCHES = 0.17, 11.0
LONGEST_GAP_S, CUT_S = 0.5, 0.15  # a gap that is longer is drawn so long
INK, FAINT, PAPER = "#1d1d1f", "#c7c7cc", "#ffffff"
SHOWN = ("perfusion.step", "perfusion.rows", "perfusion.rounds", "perfusion.table_version")
_NANOSECONDS = 1e9


class NoTrace(ValueError):
    """There is nothing to draw; the message says where it was looked for."""


@dataclass(frozen=True)
class Span:
    """One span; times in seconds since 1970."""

    trace: str
    span: str
    parent: str
    name: str
    process: str
    begin_s: float
    end_s: float
    attributes: dict[str, Any]

    @property
    def label(self) -> str:
        told = [f"{name.rpartition('.')[2]} {self.attributes[name]}" for name in SHOWN if name in self.attributes]
        took = f"{1000 * (self.end_s - self.begin_s):.0f} ms"
        return f"{self.name}  {', '.join([*told, took])}"


def read_spans(folder: Path) -> Iterator[Span]:
    """Of all files of a folder."""
    for file in sorted(folder.glob("*.jsonl")):
        with file.open(encoding="utf-8") as lines:
            for line in lines:
                for of_process in json.loads(line).get("resourceSpans", ()):
                    process = str(_attributes(of_process["resource"]).get("service.name", ""))
                    for scope in of_process["scopeSpans"]:
                        yield from (_span(each, process) for each in scope["spans"])


def trace_of(spans: Sequence[Span], trace: str | None, folder: Path) -> list[Span]:
    """The spans of one trace, each after the one that began it; of the largest trace, unless one is named.

    Raises:
        NoTrace: there is none.
    """
    sizes = Counter(span.trace for span in spans)
    if not sizes or (trace is not None and trace not in sizes):
        raise NoTrace(f"{folder} has {len(sizes)} traces" + ("" if trace is None else f", and not {trace}"))
    wanted = trace or sizes.most_common(1)[0][0]
    return list(_in_order([span for span in spans if span.trace == wanted]))


def draw(spans: Sequence[Span], picture: Path) -> None:
    """Writes the picture; spans from the top to the bottom as they come."""
    place = Axis(spans)
    processes = list(dict.fromkeys(span.process for span in spans))
    colours = {process: f"C{number}" for number, process in enumerate(processes)}
    height = ROW_INCHES * len(spans) + 1.2
    figure, axis = plt.subplots(figsize=(WIDTH_INCHES, height), layout="constrained")
    whole = place.at(max(span.end_s for span in spans))
    for row, span in enumerate(spans):
        begin, end = place.at(span.begin_s), place.at(span.end_s)
        axis.barh(row, max(end - begin, whole / 500), left=begin, height=0.72, color=colours[span.process])
        is_long, is_late = end - begin > 0.4 * whole, begin > 0.55 * whole
        x = begin if is_long or is_late else max(end, begin + whole / 500)
        side, ink = ("right", INK) if is_late and not is_long else ("left", PAPER if is_long else INK)
        axis.text(x, row, f" {span.label} ", va="center", ha=side, fontsize=6.5, color=ink)
    for at, skipped_s in place.cuts:
        axis.axvline(at, color=FAINT, linewidth=1, linestyle=":")
        axis.text(at, -1.2, f"{skipped_s:.1f} s later", fontsize=6.5, color=INK, ha="center")
    axis.set(ylim=(len(spans) - 0.4, -2.0), xlim=(-0.01 * whole, 1.06 * whole), yticks=(), xlabel="seconds")
    axis.spines[["left", "top", "right"]].set_visible(False)
    handles = [Rectangle((0, 0), 1, 1, color=colours[process]) for process in processes]
    axis.legend(handles, processes, loc="lower left", fontsize=8, frameon=False)
    axis.set_title(f"trace {spans[0].trace}", fontsize=9, loc="left")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=110)
    plt.close(figure)


class Axis:
    """Seconds since the first span, without most of the time in which nothing is done."""

    def __init__(self, spans: Iterable[Span]) -> None:
        self.cuts: list[tuple[float, float]] = []  # where on the axis, and how many seconds
        self._busy: list[tuple[float, float, float]] = []  # begin and end, seconds since 1970, and place of the begin
        at = 0.0
        for begin, end in _united((span.begin_s, span.end_s) for span in spans):
            if self._busy:
                gap = begin - self._busy[-1][1]
                at += gap if gap <= LONGEST_GAP_S else CUT_S
                if gap > LONGEST_GAP_S:
                    self.cuts.append((at - CUT_S / 2, gap))
            self._busy.append((begin, end, at))
            at += end - begin

    def at(self, time_s: float) -> float:
        """Where a moment lies that is within a span."""
        begin, _, at = max(busy for busy in self._busy if busy[0] <= time_s)
        return at + time_s - begin


def _united(intervals: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those that overlap as one, in their order."""
    found: list[tuple[float, float]] = []
    for begin, end in sorted(intervals):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def _in_order(spans: Sequence[Span]) -> Iterator[Span]:
    """Each before those that it began, in the order of their beginning; whose parent is not there, is a root."""
    known = {span.span for span in spans}
    children: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: span.begin_s):
        children.setdefault(span.parent if span.parent in known else "", []).append(span)

    def below(parent: str) -> Iterator[Span]:
        for span in children.get(parent, ()):
            yield span
            yield from below(span.span)

    return below("")


def _span(found: dict[str, Any], process: str) -> Span:
    return Span(
        trace=found["traceId"],
        span=found["spanId"],
        parent=found.get("parentSpanId", ""),
        name=found["name"],
        process=process,
        begin_s=int(found["startTimeUnixNano"]) / _NANOSECONDS,
        end_s=int(found["endTimeUnixNano"]) / _NANOSECONDS,
        attributes=_attributes(found),
    )


def _attributes(of: dict[str, Any]) -> dict[str, Any]:
    """OTLP names the type of each value."""
    return {each["key"]: next(iter(each["value"].values()), None) for each in of.get("attributes", ())}
