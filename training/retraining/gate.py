"""Decides whether a candidate may serve: before traffic on held-out picks, then by mixed groups under traffic.

    python -m training.retraining.gate offline --groups LAKE/groups --live FAMILY --candidate RUN/family --out FILE
    python -m training.retraining.gate traffic --groups LAKE/groups --live 6 --trial 7 --since 2026-11-26T07:00Z \\
        --out FILE
    python -m training.retraining.gate show FILE

FILE gets the verdict with its reasons and figures as JSON (training.retraining.verdicts), whatever happens: a gate that
fails says "refuse" or "undecided" with what went wrong, and exits with 1. With a verdict it exits with 0; read the
file. What the two gates measure, and what each limit means, is in docs/loop.md, "The gate".
"""

import argparse
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from training.common.commands import attempt, parser_of
from training.common.errors import ModelError
from training.retraining.hold_out import Size, flooding, split
from training.retraining.limits import add_limits, limits_of
from training.retraining.offline_gate import GateMargins, decide
from training.retraining.traffic_gate import TrafficLimits, judge, out_of_time
from training.retraining.trained_on import trained_on
from training.retraining.verdicts import Kind, Verdict


def parse_arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    gates = parser.add_subparsers(dest="gate", required=True)
    offline = gates.add_parser("offline", help="pass or refuse, by held-out picks and what both families draw")
    _add_common(offline)
    offline.add_argument("--live", type=Path, required=True, help="the family in service")
    offline.add_argument("--candidate", type=Path, required=True, help="the family that may replace it")
    offline.add_argument("--judge", type=Path, help="a reward model of other data (default: one is trained here)")
    offline.add_argument(
        "--trained-until", type=_time, help="for a candidate without retraining.json: the newest pick it was trained on"
    )
    add_limits(offline, Size)
    add_limits(offline, GateMargins)
    traffic = gates.add_parser("traffic", help="promote, roll back or undecided, by mixed groups")
    _add_common(traffic)
    traffic.add_argument("--live", type=int, required=True, help="number of the release in service")
    traffic.add_argument("--trial", type=int, required=True, help="number of the release on trial")
    traffic.add_argument("--since", type=_time, required=True, help="when the trial began, as 2026-11-26T07:00Z")
    add_limits(traffic, TrafficLimits)
    show = gates.add_parser("show", help="a verdict as text")
    show.add_argument("file", type=Path)
    return parser.parse_args(words)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--groups", type=Path, required=True, help="table of groups, PATH or PATH@VERSION")
    parser.add_argument("--out", type=Path, required=True, help="the file that gets the verdict")


def _time(text: str) -> datetime:
    """With its zone; UTC where none is said."""
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def traffic(arguments: argparse.Namespace) -> Verdict:
    """The verdict on a release on trial."""
    from training.retraining.mixed_groups import read_mixed_groups  # Arrow takes a second to load

    if arguments.live == arguments.trial:
        raise ModelError(f"release {arguments.live} cannot be on trial against itself")
    found = read_mixed_groups(arguments.groups, arguments.live, arguments.trial, arguments.since)
    outcome = judge(found, limits_of(arguments, TrafficLimits), arguments.since)
    return Verdict(
        "traffic", arguments.live, arguments.trial, **vars(outcome),
        table=str(arguments.groups), table_version=found.version,
    )  # fmt: skip


def offline(arguments: argparse.Namespace) -> Verdict:
    """The verdict on a candidate before traffic; checks the table first, then loads torch."""
    from training.data.delta import delta_name
    from training.data.table import check_data, is_table, read_table

    size, margins = limits_of(arguments, Size), limits_of(arguments, GateMargins)
    table = check_data(arguments.groups)
    if not is_table(table):
        raise ModelError(f"{table} is no table of groups: prompts and pictures are needed as they are")
    candidate, live = trained_on(arguments.candidate), trained_on(arguments.live)
    if candidate is None and arguments.trained_until is None:
        raise ModelError(f"{arguments.candidate} has no retraining.json, so nothing says which groups it was trained "
                         "on: give --trained-until")  # fmt: skip
    parts = split(list(read_table(table, images=False)), candidate, live, size, arguments.trained_until)

    from training.models.family import hush_libraries  # torch takes seconds to load
    from training.retraining.offline_figures import Measuring

    hush_libraries()
    with tempfile.TemporaryDirectory(prefix="gate-") as work:
        measuring = Measuring(table, parts, (arguments.live, arguments.candidate), size, Path(work))
        measured = measuring.all(arguments.judge, margins)
    problems = [*flooding(parts.new, margins), *measured.problems]
    outcome = decide(measured.held_out, measured.compared, margins, problems, measured.judge_gauc)
    name = delta_name(table)
    return Verdict(
        "offline", str(arguments.live), str(arguments.candidate), outcome.verdict, outcome.reasons,
        {**outcome.figures, **measured.figures}, None, outcome.groups, outcome.merchants,
        table=name.location if name else str(table), table_version=name.version if name else None,
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Writes the verdict and prints it; one of a gate that fails before its error goes on."""
    if arguments.gate == "show":
        print(Verdict.read(arguments.file).as_text())
        return
    failed(arguments, "it did not come to its end", late=False).write(arguments.out)  # for one that is killed
    try:
        verdict = (offline if arguments.gate == "offline" else traffic)(arguments)
    except BaseException as error:
        failed(arguments, f"{error}" or type(error).__name__).write(arguments.out)
        raise
    verdict.write(arguments.out)
    print(verdict.as_text())


def failed(arguments: argparse.Namespace, why: str, late: bool = True) -> Verdict:
    """The verdict of a gate that could not decide; with `late`, a trial that is out of time ends all the same."""
    reasons = [f"the gate failed: {why}"]
    if arguments.gate == "offline":
        live, candidate, verdict = str(arguments.live), str(arguments.candidate), "refuse"
    else:
        live, candidate, verdict = arguments.live, arguments.trial, "undecided"
        with suppress(ModelError):  # limits out of range are why it failed
            if late and (ended := out_of_time(limits_of(arguments, TrafficLimits), arguments.since)):
                verdict, reasons = "roll back", [ended, *reasons]
    kind: Kind = arguments.gate
    e_value = 1.0 if kind == "traffic" else None  # nothing was won
    return Verdict(kind, live, candidate, verdict, tuple(reasons), {}, e_value, table=str(arguments.groups))  # type: ignore[arg-type]


def main() -> int:
    return attempt(partial(run, parse_arguments()), "the gate failed")


if __name__ == "__main__":
    raise SystemExit(main())
