"""The online lift of one arm over the other: of items, store by store, as the paper's Table 4, or among viewers.

    python -m training.measurement.lift plan --out build/lift/plan.json --treated-share 0.5 [--unit viewer]
    python -m training.measurement.lift analyse --events LAKE/shop --plan build/lift/plan.json --out build/lift

`plan` fixes the rules before the data are looked at: how much exposure a store needs in both arms, the window within
which a viewer's repeated impression counts once, the ages of the table against novelty, and, where chance assigns items
to arms, the share that is treated. Without --treated-share the comparison is observational, and the report says so.

`analyse` reads a Delta table (a folder, s3://…, or either with @VERSION) or Parquet files with the columns

    event_id, kind (impression, click, order, return), item_id, user_id (the merchant), arm (treatment, control),
    surface, position, create_time, item_create_time, viewer_hash, units

`arm` is that of whatever the plan's --unit says. The arm that a ShopEvent carries, and so LAKE/shop has, is the
viewer's: with the unit `item` give --arms, unless the shop wrote the item's arm there. A table whose arms are of the
other unit is refused, since an item then has two arms, or a viewer. --arms FILE maps items (or viewers, by viewer_hash)
to arms in the place of the column, as JSON or Parquet. Where a shop sells more, or more people come, than what is
compared, --leave-out-others takes what is in no arm out. It writes report.json, lift.png and report.html.

By item: click-through in all and by surface, conversion, orders by impressions and the return rate, each by three
labelled estimators with intervals over stores; stores that were dropped; click-through adjusted for position and age,
and by age; the sample-ratio check; with --placebo N, how often N splits of the control items by chance find a lift.

By viewer: the same metrics and orders_per_viewer as ratios of sums over all stores, with intervals over viewers, among
viewers with an impression; the sample-ratio check and the placebo are of viewers.

It refuses unless the A/A gate passed for this very code (`make eval-lift`: 1,000 simulated shops without a lift); with
--ungated it measures all the same, and the report says that. docs/measuring.md defines every number.
"""

import argparse
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from training.common.commands import attempt, parser_of
from training.common.reports import write_report

if TYPE_CHECKING:
    from training.measurement.lift.plan import Plan


def parse_arguments(given: list[str] | None = None) -> argparse.Namespace:
    from training.measurement.lift.gate import GATE
    from training.measurement.lift.plan import LEAST, UNITS, Plan

    parser = parser_of(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    plan = commands.add_parser("plan", help="fix the rules, before")
    plan.add_argument("--out", type=Path, required=True, help="the plan's file")
    unit = "what is in an arm: items, compared within stores, or viewers (default: %(default)s)"
    plan.add_argument("--unit", choices=UNITS, default=Plan.unit, help=unit)
    plan.add_argument("--treated-share", type=float, help="of items or viewers, where chance assigns them")
    for metric, usual in LEAST.items():
        name = f"--least-{metric.replace('_', '-')}"
        plan.add_argument(
            name, type=int, default=usual, help="exposure of a store, or by viewer in all, in both arms (%(default)s)"
        )
    plan.add_argument("--window-s", type=int, default=Plan.window_s, help="repeated impressions (default: %(default)s)")
    plan.add_argument("--age-days", type=int, nargs="*", default=Plan.age_days, help="bounds of ages (%(default)s)")
    plan.add_argument("--surfaces", nargs="*", default=Plan.surfaces, help="(default: %(default)s)")
    analyse = commands.add_parser("analyse", help="the report")
    analyse.add_argument("--events", type=Path, required=True, help="Delta table or Parquet")
    analyse.add_argument("--plan", type=Path, required=True)
    analyse.add_argument("--arms", type=Path, help="items, or viewers, to arms")
    others = "leave out what is in no arm, and count it; without it it is refused"
    analyse.add_argument("--leave-out-others", action="store_true", help=others)
    analyse.add_argument("--gate", type=Path, default=GATE, help="the A/A gate's report (default: %(default)s)")
    analyse.add_argument("--ungated", action="store_true", help="measure without the gate, and say so")
    analyse.add_argument("--placebo", type=int, default=0, metavar="N", help="splits of what is in the control arm")
    analyse.add_argument("--out", type=Path, required=True, help="folder of the report")
    return parser.parse_args(given)


def run(arguments: argparse.Namespace) -> None:
    (_plan if arguments.command == "plan" else _analyse)(arguments)


def _plan(arguments: argparse.Namespace) -> None:
    from training.measurement.lift.plan import LEAST, Plan

    plan = Plan(
        datetime.now(UTC).isoformat(timespec="seconds"), {m: getattr(arguments, f"least_{m}") for m in LEAST},
        arguments.window_s, tuple(arguments.age_days), tuple(arguments.surfaces), arguments.treated_share,
        unit=arguments.unit,
    )  # fmt: skip
    plan.write(arguments.out)
    print(f"plan fixed in {arguments.out}, SHA-256 {Plan.read(arguments.out).sha256}")


def _analyse(arguments: argparse.Namespace) -> None:
    from training.measurement.lift.gate import check_gate
    from training.measurement.lift.plan import Plan

    plan = Plan.read(arguments.plan)
    gate = None
    if not arguments.ungated:
        gate = {"file": str(arguments.gate), "says": check_gate(arguments.gate, plan.unit)["says"]}
    report = (_by_viewer if plan.unit == "viewer" else _by_item)(arguments, plan, gate)
    print(report)
    print(f"written to {arguments.out}" + (", not gated" if gate is None else ""))


def _by_item(arguments: argparse.Namespace, plan: "Plan", gate: dict[str, str] | None) -> str:
    """Writes the report; returns it as text."""
    from training.measurement.lift.analysis import analysed
    from training.measurement.lift.events import read_arms, read_events
    from training.measurement.lift.figures import as_text, write_figures

    arms = read_arms(arguments.arms) if arguments.arms else None
    events = read_events(arguments.events, plan.window_s, arms, others=not arguments.leave_out_others)
    report = analysed(events, plan, arguments.placebo) | {"gate": gate}
    write_report(arguments.out / "report.json", report)
    write_figures(report, arguments.out)
    return as_text(report)


def _by_viewer(arguments: argparse.Namespace, plan: "Plan", gate: dict[str, str] | None) -> str:
    """Writes the report; returns it as text."""
    from training.measurement.lift.events import read_arms
    from training.measurement.lift.viewer_events import read_viewer_events
    from training.measurement.lift.viewer_figures import viewer_text, write_viewer_figures
    from training.measurement.lift.viewer_report import analysed_by_viewer

    arms = read_arms(arguments.arms, "viewer_hash") if arguments.arms else None
    events = read_viewer_events(arguments.events, plan.window_s, arms, others=not arguments.leave_out_others)
    report = analysed_by_viewer(events, plan, arguments.placebo) | {"gate": gate}
    write_report(arguments.out / "report.json", report)
    write_viewer_figures(report, arguments.out)
    return viewer_text(report)


def main() -> int:
    return attempt(partial(run, parse_arguments()), "no lift")


if __name__ == "__main__":
    raise SystemExit(main())
