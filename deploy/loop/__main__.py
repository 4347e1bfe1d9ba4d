"""`python -m deploy.loop`: turns of the loop, played by simulated merchants or on a platform that runs.

python -m deploy.loop play                    make loop: a platform of its own, three turns under traffic, a report
python -m deploy.loop turn --original TABLE   one turn on the running platform, with the picks that Kafka has
python -m deploy.loop turn --original TABLE --order-weight 0.5   in which what buyers ordered counts, too
"""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from contract.errors import InputError
from deploy.local.cluster import ClusterError
from deploy.local.layout import ROOT, Layout
from deploy.loop.records import TrafficError
from deploy.loop.turn import Plan, Turn, TurnError, Turning, say, turns_in

TINY = ROOT / "training" / "weights" / "tiny"


def main() -> int:
    options = _parse()
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell's background job ignores the latter
        signal.signal(number, signal.default_int_handler)
    try:
        return _COMMANDS[options.command](options)
    except (TurnError, TrafficError, ClusterError, InputError) as error:
        print(f"{options.command} stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _play(options: argparse.Namespace) -> int:
    from deploy.loop.playing import Scale, play  # torch and the market, which `turn` and --help do not need

    scale = Scale(
        options.turns,
        options.groups,
        options.original_groups,
        options.workers,
        options.poison,
        options.reward_steps,
        options.kills,
    )
    work = options.work.resolve()
    return play(Layout(options.name, options.port_offset, work / "model_repository"), work, scale)


def _turn(options: argparse.Namespace) -> int:
    layout = Layout(options.name, options.port_offset, options.model_repository.resolve())
    plan = Plan(
        layout,
        options.lake,
        options.original,
        options.family,
        options.parts,
        options.trial_share,
        collects=True,
        order_weight=options.order_weight,
        shop=options.shop,
    )
    live = plan.repository.live()
    if live is None:
        raise TurnError(f"nothing is live in {plan.repository.root}: start the platform first (`make up`)")
    turns = turns_in(options.work)
    turn = turns[-1] if turns else None
    if turn is None or turn.outcome is not None:
        number = 1 if turn is None else turn.number + 1
        promoted = [options.work / f"turn-{each.number}" for each in turns if each.candidate == live]
        family = promoted[-1] / "run" / "family" if promoted else options.family
        turn = Turn(number, live, str(options.live_family or family))
    Turning(plan, options.work / f"turn-{turn.number}", turn, say).run()
    return 0


_TURN = """\
One turn on the running platform: collect, retrain, offline gate, export, load, trial in mixed groups, traffic gate,
promote or end the trial. Each step's command writes a log of its own into WORK/turn-N; docs/loop.md says what each
does. Interrupted, the same command goes on where it was; when a turn is over, it begins the next one.

python -m deploy.loop turn --original TABLE                      TABLE: what the first release was trained on
python -m deploy.loop turn --original TABLE --order-weight 0.5   what buyers ordered counts beside picks

Orders are off by default: docs/measuring.md has what a weight costs merchants and gains in orders. Give the same
options to go on with a turn.
"""
_COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {"play": _play, "turn": _turn}


def _parse() -> argparse.Namespace:
    shown = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="python -m deploy.loop", description=__doc__, formatter_class=shown)
    commands = parser.add_subparsers(dest="command", required=True)
    play = commands.add_parser("play", help="a platform of its own, merchants who pick by hidden tastes, a report")
    play.add_argument("--name", default="loop", help="the platform's name (default: %(default)s)")
    play.add_argument("--port-offset", type=int, default=400, help="of its ports (default: %(default)s)")
    play.add_argument("--work", type=Path, default=ROOT / "build" / "loop", help="(default: build/loop)")
    play.add_argument("--turns", type=int, default=3, help="(default: %(default)s)")
    play.add_argument("--groups", type=int, default=1200, help="picked groups before each turn (default: %(default)s)")
    play.add_argument(
        "--original-groups", type=int, default=300, help="of which the first release knows (default: %(default)s)"
    )
    play.add_argument("--workers", type=int, default=3, help="rounds at once (default: %(default)s)")
    play.add_argument(
        "--poison", type=int, default=600, help="random picks of a last turn; 0: none (default: %(default)s)"
    )
    play.add_argument("--reward-steps", type=int, default=200, help="of each reward model (default: %(default)s)")
    play.add_argument("--kills", type=int, default=20, help="of each part, at the end; 0: none (default: %(default)s)")
    turn = commands.add_parser(
        "turn",
        help="one turn on the running platform; run again, it goes on",
        description=_TURN,
        formatter_class=shown,
    )
    turn.add_argument("--name", default="local", help="the running platform (default: %(default)s)")
    turn.add_argument("--port-offset", type=int, default=0, help="of its ports (default: %(default)s)")
    turn.add_argument("--model-repository", type=Path, default=ROOT / "model_repository", help="where releases lie")
    turn.add_argument("--work", type=Path, default=ROOT / "build" / "turn", help="(default: build/turn)")
    turn.add_argument(
        "--lake", type=Path, default=ROOT / "build" / "lake", help="what collect fills (default: build/lake)"
    )
    turn.add_argument("--original", type=Path, required=True, help="the table of the first release")
    turn.add_argument("--family", type=Path, default=TINY, help="the base family (default: %(default)s)")
    turn.add_argument("--live-family", type=Path, help="what the live release was exported from (default: the base)")
    turn.add_argument("--parts", default="wishes,reward", help="what is trained (default: %(default)s)")
    turn.add_argument("--trial-share", type=float, default=0.5, help="of requests (default: %(default)s)")
    weight = "how much orders count beside picks, as of retrain; 0: the shop's table is not read (default: %(default)g)"
    turn.add_argument("--order-weight", type=_weight, default=0.0, metavar="W", help=weight)
    turn.add_argument("--shop", type=Path, help="where orders count: table of the shop's events (default: LAKE/shop)")
    options = parser.parse_args()
    if options.command == "turn" and options.shop and not options.order_weight:
        parser.error("--shop is read where orders count: give --order-weight, too")
    return options


def _weight(text: str) -> float:
    weight = float(text)
    if not 0 <= weight < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not 0 or more")
    return weight


if __name__ == "__main__":
    sys.exit(main())
