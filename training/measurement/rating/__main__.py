"""Blind rating of pictures by experts, as the paper's Table 3: the design before, the analysis after.

    python -m training.measurement.rating design --items items.json --raters anna bo chen @more.txt \\
        --reference human --out build/rating
    python -m training.measurement.rating analyse --design build/rating/design.json --key build/rating/key.json \\
        --ratings ratings.jsonl --out build/rating/report

`design` writes, once:

    design.json   the protocol, the pictures under neutral names, and each rater's tasks in order: what a rating page
    reads key.json      which picture is of which method, which tasks are repeats or have a known answer: never on that
    page pictures/     the pictures, all of one size, in sRGB, upright, whole on white, without metadata

An item is {"item_id", "category", "method", "picture"}, and may have "gold": {aspect: [allowed scores]}; the list is
JSON or Parquet. Items are matched by category into sets with one of each method; each set is rated by
--raters-per-picture raters, in balanced incomplete blocks. Each rater has an order of their own, sees 5 to 10 % of the
pictures twice and every gold picture once, and is asked last which pictures an AI made. The design is the
pre-registration: publish its SHA-256, which `design` prints, before the first rating; `analyse` refuses a design that
was changed.

`analyse` reads ratings.jsonl, a line an answer (docs/measuring.md has the format), and writes report.json, ratios.png
and report.html: by aspect the ratio of mean scores to the reference with an interval crossed over sets and raters,
Holm's p, the same without each rater; Krippendorff's alpha and Gwet's AC2; repeats, gold failures, exclusions,
blinding.
"""

import argparse
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from training.common.commands import attempt, parser_of
from training.common.reports import write_report
from training.measurement.rating.protocol import Protocol

_OPTIONS = {
    "raters_per_picture": "raters of each set",
    "repeat_share": "share of a rater's pictures that is shown twice, .05 to .10",
    "min_dwell_ms": "faster ratings are left out",
    "max_gold_failures": "share of failed gold answers beyond which a rater is left out",
    "origin_pictures": "of how many pictures a rater is asked who made them",
    "size_px": "both sides of each picture",
    "draws": "of the bootstrap",
}


def parse_arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = parser_of(__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    design = commands.add_parser("design", help="fix who rates what, and make the pictures")
    design.add_argument("--items", type=Path, required=True, help="list of items, JSON or Parquet")
    design.add_argument("--raters", nargs="+", required=True, help="their names; @FILE has one a line")
    design.add_argument("--reference", default="human", help="the method that others are compared with (%(default)s)")
    design.add_argument("--out", type=Path, required=True, help="folder of the design")
    design.add_argument("--seed", type=int, default=0, help="of everything that chance decides (default: %(default)s)")
    usual = Protocol()
    for name, says in _OPTIONS.items():
        value = getattr(usual, name)
        design.add_argument(
            f"--{name.replace('_', '-')}", type=type(value), default=value, help=f"{says} (%(default)s)"
        )
    analyse = commands.add_parser("analyse", help="the report on what was answered")
    for name in ("design", "key", "ratings"):
        analyse.add_argument(f"--{name}", type=Path, required=True)
    analyse.add_argument("--out", type=Path, required=True, help="folder of the report")
    return parser.parse_args(given)


def run(arguments: argparse.Namespace) -> None:
    (_design if arguments.command == "design" else _analyse)(arguments)


def _design(arguments: argparse.Namespace) -> None:
    from training.measurement.rating.designing import KEY, small_pictures, write_design
    from training.measurement.rating.items import read_items, read_raters

    protocol = Protocol(**{name: getattr(arguments, name) for name in _OPTIONS})
    items, raters = read_items(arguments.items), read_raters(arguments.raters)
    key = write_design(
        items, raters, arguments.out, protocol, arguments.reference, arguments.seed, datetime.now(UTC)
    )  # fmt: skip
    print(f"design {key['design_id']} in {arguments.out}; publish its SHA-256 before the first rating:")
    print(key["design_sha256"])
    print(f"keep {arguments.out / KEY} away from the page and from raters: it says how each picture was made")
    if key["left_out"]:
        print(f"{len(key['left_out'])} items found no partner in their category and are left out")
    if not any(told["gold"] for told in key["pictures"].values()):
        print("the list has no gold item: careless raters cannot be told apart")
    if small := {method: n for method, n in small_pictures(key, protocol.size_px).items() if n}:
        print(f"enlarged to {protocol.size_px} pixels, which may give them away: {small}")


def _analyse(arguments: argparse.Namespace) -> None:
    from training.measurement.rating.analysis import analysed
    from training.measurement.rating.answers import Rated, read_answers
    from training.measurement.rating.figures import as_text, write_figures

    rated = Rated.read(arguments.design, arguments.key)
    report = analysed(rated, read_answers(arguments.ratings, rated))
    write_report(arguments.out / "report.json", report)
    write_figures(report, arguments.out)
    print(as_text(report))
    print(f"written to {arguments.out}")


def main() -> int:
    return attempt(partial(run, parse_arguments()), "no rating")


if __name__ == "__main__":
    raise SystemExit(main())
