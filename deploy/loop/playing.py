"""`make loop`: a platform of its own, simulated merchants under whose traffic the loop turns, and the report.

From a first release that knows a few hundred groups. Everything lies under the work folder; what is done already is not
done again. Knows the order of things; the turn's steps, the merchants and the measures have modules of their own.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from deltalake import DeltaTable

from contract.repository import Repository, write_durably
from deploy.local.clients import connect
from deploy.local.cluster import Cluster
from deploy.local.layout import ROOT, Layout, venv
from deploy.loop import report
from deploy.loop.collector import Collector
from deploy.loop.faults import Faults
from deploy.loop.merchants import FIRST_MERCHANT, Player, players
from deploy.loop.records import Shown
from deploy.loop.traffic import Traffic
from deploy.loop.turn import Plan, Turn, Turning, environment, say
from lab.market.rounds import choose
from lab.recogniser.recogniser import JUDGE, Recogniser
from training.common.runs import held
from training.data.table import read_table
from training.retraining.erasures import erased
from training.retraining.lake import Lake

TINY = ROOT / "training" / "weights" / "tiny"
# Merchants of the first table, and new ones of every turn: so many that most have few picks, as in a shop. Of a hundred
# who play forty rounds each, the history of their own picks knows all that a retraining could learn (docs/results.md).
FOUNDERS, JOINING = 300, 150
EXPLORATION, HOLDBACK = 0.08, 0.04
PATIENCE_S = 300.0  # without a round that ends
HOLD_OUT = 400  # newest picked groups, which are the gate's
MOST_MIXED = 1_000  # mixed groups of a trial; at traffic's pace a quarter of an hour


@dataclass(frozen=True)
class Scale:
    """How much is played."""

    turns: int = 3
    groups: int = 1200  # picked before each turn
    original_groups: int = 300
    workers: int = 3
    poison: int = 600  # poisoned rounds before a last turn
    reward_steps: int = 200  # of each training of the reward model
    kills: int = 20  # of each part, at the end


def play(
    layout: Layout,
    work: Path,
    scale: Scale,
    offline_gate: tuple[str, ...] = (),
    traffic_gate: tuple[str, ...] = (),
) -> int:
    """The whole; returns the exit status. The gates decide by their own limits, unless options change them.

    Raises:
        BusyError: another process plays in this folder.
    """
    with held(work):
        return _play(layout, work, scale, offline_gate, traffic_gate)


def _play(
    layout: Layout, work: Path, scale: Scale, offline_gate: tuple[str, ...], traffic_gate: tuple[str, ...]
) -> int:
    held_out = min(HOLD_OUT, scale.groups // 3)
    steps = ("--reward-steps", str(scale.reward_steps), "--hold-out", str(held_out))
    # The project's own reward model, of other merchants' picks: it has seen nothing of the loop, nor the loop of it.
    # One that is trained on half of the held-out groups hardly knows the served groups' picks, since all candidates of
    # such a group show what the merchant likes.
    offline_gate = ("--judge", str(TINY), *offline_gate)
    plan = Plan(layout, work / "lake", work / "original", work / "base", retrain=steps,
                offline_gate=offline_gate, traffic_gate=("--most-groups", str(MOST_MIXED), *traffic_gate))  # fmt: skip
    first = _first_family(plan, work, scale)
    first_release = _first_release(plan, work, first)
    cluster = Cluster(layout, say=say)
    cluster.up()
    try:
        found = _turns(plan, cluster, work, scale, {first_release: first})
    finally:
        cluster.down()
    print(report.table(found))
    print(f"written: {work / 'report.json'}, {work / 'loop.png'}")
    return 0


def _first_family(plan: Plan, work: Path, scale: Scale) -> Path:
    """The base, without anything personal, and the family of the first release, which the first table taught."""
    family = work / "first" / "family"
    if family.exists():
        return family
    _run("original", "lab.market.table", "--out", plan.original, "--groups", scale.original_groups,
         "--merchants", FOUNDERS, "--first-merchant", FIRST_MERCHANT)  # fmt: skip
    shutil.rmtree(plan.family, ignore_errors=True)
    shutil.copytree(TINY, plan.family, ignore=shutil.ignore_patterns("preferences", "perfusion_rm"))
    given = ["--data", plan.original, "--weights", plan.family]
    _run("first-wishes", "training.wishes.train", *given, "--out", work / "first" / "wishes")
    _run(
        "first-reward",
        "training.reward.train",
        *given,
        "--out",
        work / "first" / "reward",
        "--recipe",
        "tiny",
        "--steps",
        scale.reward_steps,
    )
    partial = family.with_name("partial")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(plan.family, partial)
    shutil.copytree(work / "first" / "wishes" / "preferences", partial / "preferences")
    shutil.copytree(work / "first" / "reward" / "perfusion_rm", partial / "perfusion_rm")
    partial.rename(family)
    return family


def _first_release(plan: Plan, work: Path, family: Path) -> int:
    """A repository of the loop's own; models that the project's newest release has already are linked."""
    done, repository, project = work / "first" / "release", plan.repository, Repository(ROOT / "model_repository")
    if done.exists():
        return int(done.read_text())
    shutil.rmtree(repository.root, ignore_errors=True)
    newest = project.numbers()[-1]
    for folder in [*project.model_folders(newest), project.release_dir(newest)]:
        into = repository.root / folder.parent.name / str(newest)
        shutil.copytree(folder, into, copy_function=lambda source, target: Path(target).hardlink_to(source))
    for config in project.root.glob("*/config.pbtxt"):
        shutil.copy2(config, repository.root / config.parent.name)
    _run("export", "training.exporting.export", "--weights", family, "--repository", repository.root)
    number = repository.numbers()[-1]
    write_durably(done, f"{number}\n")
    return number


def _turns(plan: Plan, cluster: Cluster, work: Path, scale: Scale, families: dict[int, Path]) -> dict[str, Any]:
    """Plays, turns, and measures; goes on with the turns that an earlier call left.

    Args:
        families: of the first release; those that are promoted are added.
    """
    [(first_release, first)] = families.items()
    judge = Recogniser.load(JUDGE)
    trained_on = {first_release: {group.user_id for group in read_table(plan.original, images=False)}}
    turns: list[Turn] = []
    with connect(plan.layout) as clients, _collecting(plan, work) as collector:
        traffic = Traffic(clients, judge, work, scale.workers)
        founders = _not_erased(plan, players(range(FOUNDERS), 0))
        traffic.join(founders)
        steps = Turning(plan, work / "setup", Turn(0, first_release, str(first)), say)
        steps.release("shares", "shares", "--exploration", f"{EXPLORATION}", "--holdback", f"{HOLDBACK}", "--base",
                      str(first_release))  # fmt: skip
        with traffic.playing():
            for number in range(1, scale.turns + 1):
                new = FOUNDERS + (number - 1) * JOINING
                traffic.join(_not_erased(plan, players(range(new, new + JOINING), number)))
                if not (work / f"turn-{number}").exists():
                    _await_rounds(traffic, scale.groups, f"turn {number}")
                turns.append(_one_turn(plan, work, number, families, trained_on, traffic.rounds))
            new = FOUNDERS + scale.turns * JOINING  # nobody that the last release has learnt from
            traffic.join(_not_erased(plan, players(range(new, new + JOINING), scale.turns + 1)))
            _await_rounds(traffic, max(scale.groups // 3, report.FEWEST), "the last release")
            rollback_s = _roll_back_and_forth(steps)
            if scale.poison:
                traffic.pick, traffic.flooding = _random_pick, founders[0]
                _await_rounds(traffic, scale.poison, "poisoned picks")
                traffic.pick, traffic.flooding = choose, None
                _await_rounds(traffic, min(HOLD_OUT, scale.groups // 3), "honest picks again, which are held out")
                turns.append(_one_turn(plan, work, scale.turns + 1, families, trained_on, traffic.rounds))
        faults = {}
        if scale.kills:
            persistent = Traffic(clients, judge, work / "faults", scale.workers, persistent=True)
            persistent.join(founders)
            faults = Faults(plan, cluster, collector, persistent).all(scale.kills)
        erased = _erase(plan, traffic)
    rounds = traffic.rounds
    found = {
        "releases": [
            report.of_release(rounds, release, trained_on[release]) | {"table_version": _version_of(turns, release)}
            for release in families
        ],
        "requests": traffic.requests,
        "failed_requests": len(traffic.failed),
        "rollback_s": rollback_s,
        "gate": [report.of_gate(turn, rounds) for turn in turns],
        "faults": faults,
        "erased": erased,
    }
    (work / "report.json").write_text(json.dumps(found, indent=1) + "\n")
    report.draw(found, turns, work / "loop.png")
    return found


def _not_erased(plan: Plan, wanted: list[Player]) -> list[Player]:
    """Those whom no earlier call has erased: collect would drop whatever they pick."""
    lake = Lake(str(plan.lake))
    gone = erased(lake) if lake.exists("erasures") else ()
    return [player for player in wanted if player.user_id not in gone]


def _one_turn(
    plan: Plan,
    work: Path,
    number: int,
    families: dict[int, Path],
    trained_on: dict[int, set[str]],
    rounds: Sequence[Shown],
) -> Turn:
    live = plan.repository.live()
    assert live is not None
    folder = work / f"turn-{number}"
    turn = Turn.read(folder) or Turn(number, live, str(families[live]))
    say(f"turn {number} begins; release {live} is live")
    turning = Turning(plan, folder, turn, say)
    turn = turning.run()
    if turn.candidate is not None and turn.outcome == "promote":
        families[turn.candidate] = turning.family
        learnt_from = {shown.user_id for shown in rounds if shown.event_id and shown.time < turn.started}
        trained_on[turn.candidate] = next(iter(trained_on.values())) | learnt_from
    say(f"turn {number} ends: {turn.outcome}")
    return turn


def _await_rounds(traffic: Traffic, more: int, what: str) -> None:
    say(f"{what}: waiting for {more} picked groups")

    def tell(done: int) -> None:
        if done % 200 == 0:
            say(f"{what}: {done} of {more} groups; {len(traffic.failed)} calls failed")

    traffic.await_rounds(more, PATIENCE_S, tell)


def _roll_back_and_forth(steps: Turning) -> float:
    """Seconds of a rollback under traffic; a second one puts the newest release in service again."""
    if steps.plan.repository.fallback() is None:
        return 0.0
    began = time.monotonic()
    steps.release("rollback", "rollback")
    took_s = time.monotonic() - began
    time.sleep(5)
    steps.release("forth", "rollback")
    return round(took_s, 2)


def _random_pick(utilities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A pick that says nothing."""
    selected = np.zeros(len(utilities), bool)
    selected[rng.integers(len(utilities))] = True
    return selected


def _erase(plan: Plan, traffic: Traffic) -> dict[str, int]:
    """Erases two merchants who played, and counts what is left of them."""
    users = sorted({shown.user_id for shown in traffic.rounds})[:2]
    for user in users:
        _run("erase", "training.retraining.erase", "--lake", plan.lake, "--user", user)
    left = 0
    for name in ("events", "groups", "shop"):
        found = DeltaTable(str(plan.lake / name)).to_pyarrow_table(columns=["user_id"])["user_id"].to_pylist()
        left += sum(user in users for user in found)
    return {"merchants": len(users), "rows_left": left}


def _version_of(turns: list[Turn], release: int) -> int | None:
    return next((turn.table_version for turn in turns if turn.candidate == release), None)


@contextmanager
def _collecting(plan: Plan, work: Path) -> Iterator[Collector]:
    """Collect runs beside the traffic and stops in order."""
    collector = Collector(plan, work / "collect.log")
    collector.start()
    try:
        yield collector
    finally:
        collector.stop()


def _run(name: str, module: str, *arguments: object) -> None:
    """A command to its end, with its own progress on the screen."""
    say(f"{name}: python -m {module} {' '.join(map(str, arguments))}")
    command = [str(venv("") / "bin" / "python"), "-m", module, *map(str, arguments)]
    if subprocess.run(command, cwd=ROOT, env=environment(), stdout=sys.stderr, check=False).returncode:
        sys.exit(f"{name} failed")
