"""A turn of the loop, step by step: the order of its commands, and how it goes on after an interruption at each.

The commands themselves are written down in place of being run; tests/integration/test_loop.py runs them.
"""

import json
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from contract.release import MANIFEST
from contract.repository import Repository
from contract.rollout import Rollout, rollout_file
from deploy.local.layout import ROOT, Layout
from deploy.loop import __main__ as command_line
from deploy.loop import turn as turns
from deploy.loop.turn import Plan, Turn, TurnError, Turning, environment, turns_in
from tests.contract.test_release import MANIFEST as A_MANIFEST

STEPS = ["retrain", "offline gate", "export", "load", "trial", "traffic gate", "promote"]


@dataclass
class Platform:
    """What the commands would do, noted; one of them may fail."""

    root: Path
    ran: list[str] = field(default_factory=list)
    retrained: list[str] = field(default_factory=list)  # with which options
    verdicts: list[str] = field(default_factory=lambda: ["promote"])  # of the traffic gate, one after the other
    fails: str = ""
    silent: str = ""  # a gate that writes nothing

    @property
    def repository(self) -> Repository:
        return Repository(self.root / "repository")

    @property
    def live(self) -> int:
        live = self.repository.live()
        assert live is not None
        return live

    def stage(self, number: int, version: str) -> None:
        folder = self.repository.release_dir(number)
        folder.mkdir(parents=True)
        trained_on = {"table": "lake/groups", "version": version}
        manifest = replace(A_MANIFEST, release=number, trained_on=trained_on)
        (folder / MANIFEST).write_text(json.dumps(manifest.to_json()))

    def serve(self, live: int, trial: int | None) -> None:
        self.repository.point(live, None)
        rollout = Rollout(trial=trial, mixed_share=0.5 if trial else 0.0, salt="s")
        rollout_file(self.repository.root).write_text(json.dumps(rollout.to_json()))

    def command(self, turning: Turning, step: str, module: str, *arguments: object, may_refuse: bool = False) -> Path:
        self.ran.append(step)
        if step == self.fails:
            raise TurnError(f"{step} failed")
        words = [str(word) for word in arguments]
        match step:
            case "retrain":
                self.retrained = words
                run = Path(words[words.index("--out") + 1])
                (run / "family").mkdir(parents=True, exist_ok=True)
                record = json.dumps({"table": "lake/groups", "table_version": 12})
                for path in (run / "retraining.json", run / "family" / "retraining.json"):
                    path.write_text(record)
            case "offline gate" | "traffic gate" if step != self.silent:
                verdict = "pass" if step == "offline gate" else self.verdicts.pop(0)
                said = {"verdict": verdict, "reasons": ["because"], "e_value": 2.0, "groups": 9}
                Path(words[words.index("--out") + 1]).write_text(json.dumps(said))
            case "export":
                self.stage(self.repository.numbers()[-1] + 1, "12")
            case "trial":
                self.serve(self.live, int(words[1]))
            case "promote":
                self.serve(int(words[1]), None)
            case "end trial":
                self.serve(self.live, None)
        turning.turn.took_s[step] = 1.0
        log = turning.folder / "log"
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        return log


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Platform:
    found = Platform(tmp_path)
    found.stage(7, "1")
    found.serve(7, None)

    def command(turning: Turning, step: str, module: str, *arguments: object, may_refuse: bool = False) -> Path:
        return found.command(turning, step, module, *arguments, may_refuse=may_refuse)

    monkeypatch.setattr(Turning, "command", command)
    monkeypatch.setattr(turns, "POLL_S", 0.0)
    return found


def run(platform: Platform, number: int = 1, **options: Any) -> Turn:
    """A turn that begins, or goes on where its folder says."""
    folder, root = platform.root / "work" / f"turn-{number}", platform.root
    plan = Plan(Layout("none", 0, platform.repository.root), root / "lake", root, root, **options)
    return Turning(plan, folder, Turn.read(folder) or Turn(number, 7, "first"), lambda line: None).run()


def test_a_turn_takes_its_steps_in_their_order_and_asks_the_traffic_until_it_knows(platform: Platform) -> None:
    platform.verdicts = ["undecided", "undecided", "promote"]
    turn = run(platform)
    assert platform.ran == [*STEPS[:5], "traffic gate", "traffic gate", "traffic gate", "promote"]
    assert (turn.candidate, turn.outcome, turn.table_version) == (8, "promote", 12)
    assert turn.e_values == [(9, 2.0)]  # what does not change is not noted again
    kept = platform.repository.root / "releases" / "verdicts"
    assert {path.name for path in kept.iterdir()} == {"8-offline.json", "8-traffic.json"}


def test_orders_count_where_a_weight_says_so_and_nothing_else_changes(platform: Platform) -> None:
    platform.verdicts = ["promote"] * 3
    run(platform)
    root, alone = platform.root, platform.retrained
    run_at = str(root / "work" / "turn-1" / "run")
    assert alone == [
        *("--groups", str(root / "lake" / "groups"), "--original", str(root), "--weights", str(root), "--out", run_at),
        *("--parts", "wishes,reward"),
    ]
    for number, shop in ((2, root / "lake" / "shop"), (3, Path("elsewhere@4"))):
        platform.serve(7, None)
        run(platform, number, order_weight=0.5, shop=None if number == 2 else shop)
        told = [word.replace(f"turn-{number}", "turn-1") for word in platform.retrained]
        assert told == [*alone, "--order-weight", "0.5", "--shop", str(shop)]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--shop", "lake/shop"], "give --order-weight, too"),
        (["--order-weight", "-1"], "-1 is not 0 or more"),
        (["--order-weight", "nan"], "nan is not 0 or more"),
    ],
)
def test_what_says_nothing_of_orders_is_refused(
    given: list[str], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["loop", "turn", "--original", "table", *given])
    with pytest.raises(SystemExit, match="2"):
        command_line.main()
    assert says in capsys.readouterr().err


def test_help_of_a_turn_teaches(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["loop", "turn", "--help"])
    with pytest.raises(SystemExit, match="0"):
        command_line.main()
    told = capsys.readouterr().out
    for word in ("offline gate, export, load", "--order-weight 0.5", "LAKE/shop", "docs/measuring.md", "goes on where"):
        assert word in told


def test_a_trial_that_is_worse_ends(platform: Platform) -> None:
    platform.verdicts = ["roll back"]
    turn = run(platform)
    assert platform.ran[-1] == "end trial" and turn.outcome == "roll back" and platform.repository.live() == 7


@pytest.mark.parametrize("step", STEPS)
def test_a_turn_goes_on_with_the_step_that_failed(platform: Platform, step: str) -> None:
    platform.fails, platform.verdicts = step, ["promote", "promote"]
    with pytest.raises(TurnError, match=f"{step} failed"):
        run(platform)
    platform.fails, before = "", list(platform.ran)
    turn = run(platform)
    again = {"trial": "load", "promote": "traffic gate"}.get(step, step)  # the step that this one needs beside it
    assert platform.ran == [*before, *STEPS[STEPS.index(again) :]]
    assert (turn.candidate, turn.outcome) == (8, "promote")


def test_an_export_that_ended_before_the_turn_could_say_so_is_not_repeated(platform: Platform) -> None:
    platform.fails = "load"
    with pytest.raises(TurnError):
        run(platform)
    folder = platform.root / "work" / "turn-1"
    killed = Turn.read(folder)
    assert killed is not None
    replace(killed, candidate=None).write(folder)
    platform.stage(9, "11")  # somebody else's
    platform.fails = ""
    assert run(platform).candidate == 8 and platform.ran.count("export") == 1


@pytest.mark.parametrize(
    ("live", "trial", "outcome"), [(7, None, "overruled"), (7, 9, "overruled"), (8, None, "promote")]
)
def test_who_changes_what_serves_overrules_the_turn(
    platform: Platform, live: int, trial: int | None, outcome: str
) -> None:
    platform.fails = "traffic gate"
    with pytest.raises(TurnError):
        run(platform)
    platform.serve(live, trial)
    platform.fails = ""
    assert run(platform).outcome == outcome
    assert platform.ran[-1] == "traffic gate" and platform.ran.count("promote") == 0  # nothing more was asked or done


@pytest.mark.parametrize("gate", ["offline gate", "traffic gate"])
def test_a_gate_that_says_nothing_stops_the_turn_whatever_it_said_before(platform: Platform, gate: str) -> None:
    folder = platform.root / "work" / "turn-1"
    folder.mkdir(parents=True)
    for name in ("offline.json", "traffic.json"):
        (folder / name).write_text('{"verdict": "pass"}')
    platform.silent = gate
    with pytest.raises(TurnError, match=f"the {gate} wrote no verdict"):
        run(platform)


def test_the_command_begins_a_turn_of_its_own_after_one_that_ended(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, root = platform.root / "work", platform.repository.root
    given = ["loop", "turn", "--original", "table", "--work", str(work), "--model-repository", str(root)]
    monkeypatch.setattr("sys.argv", [*given, "--family", "base"])
    platform.verdicts = ["promote", "promote"]
    assert command_line.main() == 0 and command_line.main() == 0
    first, second = turns_in(work)
    assert (first.live, first.live_family, first.candidate) == (7, "base", 8)
    assert (second.live, second.live_family, second.candidate) == (8, str(work / "turn-1/run/family"), 9)
    assert platform.ran == ["collect", *STEPS] * 2


HOLDER = """
import sys
from pathlib import Path
from training.common.runs import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_player_in_a_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["loop", "play", "--work", str(tmp_path)])
    monkeypatch.setattr("signal.signal", lambda *_: None)  # this process has its own
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=environment(), **pipes) as first:
        assert first.stdout is not None and first.stdout.readline() == "held\n"
        assert command_line.main() == 1
        first.kill()
    said = capsys.readouterr().err
    assert "play stopped" in said and f"process {first.pid} on " in said


def test_a_stop_is_an_interruption_after_which_the_same_command_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "deploy.loop", "play", "--work", str(tmp_path), "--original-groups", "100"]
    stopped = subprocess.Popen(
        command, cwd=ROOT, env=environment(), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert stopped.stderr is not None
    assert "original" in stopped.stderr.readline()  # its first step runs
    stopped.terminate()
    said = stopped.communicate(timeout=120)[1]
    assert stopped.returncode == 130 and "goes on from here" in said
