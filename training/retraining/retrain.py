"""Retrains a family on the picks that merchants gave: from the base family's weights, never from the last release's.

    python -m training.retraining.retrain --groups LAKE/groups --original TABLE --weights FAMILY --out RUN

`--groups` is the table of collected groups (training.retraining.collect), at a version, LAKE/groups@12, or at the
newest one; all of its groups train but the newest, which are held out for the gate. `--original` is what the base
family was trained on: it keeps at least `--original-share` of all weight. With `--order-weight W --shop LAKE/shop` what
buyers ordered counts beside the picks (training.retraining.orders). `--distil` also distils the new family's generator,
at the end, into a student of four steps (training.generator.distil), which then draws. RUN/family is the new family,
complete, for training.retraining.gate and training.exporting.export; RUN/retraining.json says what went in, how far it
is, and what it measured, for failures too. The same command again goes on where it stopped.

With `--min-new N` or `--every HOURS`, and `--last RUN` of the retraining before, nothing happens before it is due: the
exit status is then 3. `--check` only says whether it is due. So a scheduler can call this as often as it likes.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from training.common.commands import attempt, parser_of
from training.common.places import TINY
from training.common.traces import recorded
from training.generator import distil_recipes
from training.generator import recipes as generator_recipes
from training.retraining.due import Due, due
from training.retraining.plan import PARTS, STAGES, Plan, Rules
from training.reward import recipes as reward_recipes

RECIPES = {
    "paper": (reward_recipes.paper, generator_recipes.paper, distil_recipes.large),
    "tiny": (reward_recipes.tiny, generator_recipes.tiny, distil_recipes.tiny),
}
NOT_DUE = 3  # exit status


def parse_arguments() -> argparse.Namespace:
    parser, rules = parser_of(__doc__), Rules()
    parser.add_argument("--groups", type=Path, required=True, help="table of collected groups, or PATH@VERSION")
    parser.add_argument("--original", type=Path, required=True, help="table that the base family was trained on")
    parser.add_argument("--weights", type=Path, default=TINY, help="the base family (default: %(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="where the run is kept; the same again resumes")
    parser.add_argument("--parts", default="wishes,reward", help="what trains, of wishes,reward,adapter (%(default)s)")
    parser.add_argument("--distil", action="store_true", help="and a student of the new family's generator")
    parser.add_argument("--recipe", choices=RECIPES, default="tiny", help="of all but wishes (%(default)s)")
    parser.add_argument("--reward-steps", type=int, help="instead of the recipe's")
    parser.add_argument("--adapter-steps", type=int, help="of each of its stages, instead of the recipe's")
    parser.add_argument("--student-steps", type=int, help="of each of its stages, instead of the recipe's")
    parser.add_argument("--repository", type=Path, help="adapter: of the releases that drew the collected groups")
    parser.add_argument(
        "--original-share", type=float, default=rules.original_share,
        help="least share of original data in all weight (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--hold-out", type=float, default=rules.hold_out,
        help="newest groups left to the gate, a share or a number from 1 on (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--merchant-share", type=float, default=rules.merchant_share,
        help="most that one merchant counts with of each 1,000 groups in order, at least 50 (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--flood", choices=["cap", "refuse"], default=rules.flood,
        help="when a merchant has more: leave the surplus out, or refuse (default: %(default)s)",
    )  # fmt: skip
    weight = "W: a pick of which u units sold counts 1 + W·log(1 + u) times; 0: picks alone (default: %(default)g)"
    parser.add_argument("--order-weight", type=float, default=0.0, metavar="W", help=weight)
    parser.add_argument("--shop", type=Path, help="where orders count: table of the shop's events, or PATH@VERSION")
    parser.add_argument("--min-new", type=int, help="due from so many groups on that --last did not have")
    parser.add_argument("--every", type=float, metavar="HOURS", help="due so long after --last began")
    parser.add_argument("--last", type=Path, metavar="RUN", help="the retraining before; none: there was none")
    parser.add_argument("--check", action="store_true", help="only say whether it is due")
    return parser.parse_args()


def plan_of(given: argparse.Namespace) -> Plan:
    """What the command line asks for.

    Raises:
        ModelError: a number is out of its range, or a part is unknown.
    """
    rules = Rules(
        original_share=given.original_share,
        hold_out=given.hold_out,
        merchant_share=given.merchant_share,
        flood=given.flood,
    )
    reward, of_stage, student = RECIPES[given.recipe]
    steps = {} if given.reward_steps is None else {"steps": given.reward_steps}
    of_adapter = {} if given.adapter_steps is None else {"steps": given.adapter_steps}
    of_student = {} if given.student_steps is None else dict.fromkeys(("jump_steps", "way_steps"), given.student_steps)
    asked = {part.strip() for part in given.parts.split(",")} | ({"student"} if given.distil else set())
    return Plan(
        groups=given.groups, original=given.original, weights=given.weights, out=given.out,
        parts=tuple(sorted(asked, key=lambda part: (PARTS.index(part) if part in PARTS else -1, part))), rules=rules,
        reward=replace(reward("perfusion_rm"), **steps),
        adapter={stage: replace(of_stage(stage), **of_adapter) for stage in STAGES}, repository=given.repository,
        student=replace(student(), **of_student), order_weight=given.order_weight, shop=given.shop,
    )  # fmt: skip


def run(plan: Plan) -> None:
    """The retraining; loads torch."""
    from training.models.family import hush_libraries  # torch takes seconds to load
    from training.retraining.retraining import retrain

    hush_libraries()
    with recorded("retrain"):
        print(f"family written to {retrain(plan).pipeline.parent}")


def main() -> int:
    arguments, answer = parse_arguments(), list[str | None]()
    asked = Due(arguments.min_new, arguments.every, arguments.last)
    if status := attempt(lambda: answer.append(due(arguments.groups, asked)), "cannot tell whether it is due"):
        return status
    if (why := answer[0]) is not None:
        print(f"not due: {why}")
        return NOT_DUE
    if arguments.check:
        print("due")
        return 0
    return attempt(lambda: run(plan_of(arguments)), "retraining stopped")


if __name__ == "__main__":
    raise SystemExit(main())
