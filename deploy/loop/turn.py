"""One turn of the loop: what the picks so far teach becomes a release that is live, or a verdict that says why not.

    collect ─▶ retrain ─▶ offline gate ─▶ export ─▶ load ─▶ trial in mixed groups ─▶ traffic gate ─▶ promote or end

Each step is a command that a person can run alone (docs/loop.md); a turn runs them in their order, keeps what each said
in a file of its own, and writes turn.json after every step, so that an interrupted turn goes on where it was. Knows
commands, files and verdicts; not what models are, nor who plays.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contract.release import read_manifest
from contract.repository import Repository, write_durably
from contract.rollout import read_rollout
from deploy.local.authority import Authority
from deploy.local.kafka_broker import COLLECTOR
from deploy.local.layout import ROOT, Layout, clean_environment, venv
from deploy.local.triton_server import CONTROLLER

PASSED, PROMOTED, ROLLED_BACK, UNDECIDED, REFUSED = "pass", "promote", "roll back", "undecided", "refuse"
OVERRULED = "overruled"  # somebody changed what serves while the turn's release was on trial
POLL_S = 10.0


class TurnError(Exception):
    """A step failed; the message has the end of what it said, and the file with all of it."""


@dataclass(frozen=True)
class Plan:
    """What every turn of a loop works with."""

    layout: Layout  # of the running cluster
    lake: Path
    original: Path  # the table that the first release was trained on
    family: Path  # the base: its weights begin every training
    parts: str = "wishes,reward"
    trial_share: float = 0.5  # of requests, that get mixed groups
    collects: bool = False  # whether a turn collects first; where `collect` runs beside it, it need not
    order_weight: float = 0.0  # W: orders count beside picks, from the shop's table; 0: picks alone
    shop: Path | None = None  # where orders count: the shop's table; None: LAKE/shop
    retrain: tuple[str, ...] = ()  # further options of the commands
    offline_gate: tuple[str, ...] = ()
    traffic_gate: tuple[str, ...] = ()

    @property
    def repository(self) -> Repository:
        return Repository(self.layout.model_repository)

    @property
    def orders(self) -> list[object]:
        """The options of a retraining in which orders count; none where they do not."""
        if not self.order_weight:
            return []
        return ["--order-weight", f"{self.order_weight:g}", "--shop", self.shop or self.lake / "shop"]

    @property
    def collecting(self) -> list[object]:
        """The options of `training.retraining.collect`."""
        schema = self.family / "feature_schema.json"
        shown = Authority(self.layout.home).folder(COLLECTOR)
        kafka = ["--kafka", self.layout.address("kafka"), "--kafka-certificates", shown]
        return [*kafka, "--lake", self.lake, "--feature-schema", schema]


@dataclass
class Turn:
    """How far a turn has come: the content of turn.json."""

    number: int
    live: int  # the release in service when it began
    live_family: str  # the family that this release was exported from
    started: float = field(default_factory=time.time)
    table_version: int | None = None
    releases_before: list[int] | None = None  # what the repository had before the export
    candidate: int | None = None
    trial_since: str = ""  # RFC 3339, UTC
    verdicts: dict[str, dict[str, Any]] = field(default_factory=dict)  # by the gate's kind
    e_values: list[tuple[int, float]] = field(default_factory=list)  # (mixed groups, e-value), as they were asked for
    took_s: dict[str, float] = field(default_factory=dict)  # by step
    outcome: str | None = None  # PROMOTED, ROLLED_BACK, REFUSED or OVERRULED; None: it is under way

    def write(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        write_durably(folder / "turn.json", json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, folder: Path) -> "Turn | None":
        path = folder / "turn.json"
        return cls(**json.loads(path.read_text())) if path.exists() else None


@dataclass(frozen=True)
class Turning:
    """Runs one turn in `folder`; `say` receives a line for every step."""

    plan: Plan
    folder: Path
    turn: Turn
    say: Callable[[str], None]

    def run(self) -> Turn:
        """All steps that are not done yet.

        Raises:
            TurnError: a step failed; the release in service goes on, and running again goes on from there.
        """
        while self.turn.outcome is None:
            self._next()
            self.turn.write(self.folder)
        return self.turn

    @property
    def family(self) -> Path:
        """What this turn's training made."""
        return self.folder / "run" / "family"

    def _next(self) -> None:
        turn = self.turn
        if turn.table_version is None:
            self._retrain()
        elif "offline" not in turn.verdicts:
            self._judge_offline()
        elif turn.candidate is None:
            self._export()
        elif "trial" not in turn.took_s:
            self._start_trial()
        else:
            self._judge_by_traffic()

    def _retrain(self) -> None:
        plan, run = self.plan, self.folder / "run"
        if plan.collects:
            self.command("collect", "training.retraining.collect", *plan.collecting, "--once")
        given = ["--groups", plan.lake / "groups", "--original", plan.original, "--weights", plan.family, "--out", run]
        given += ["--parts", plan.parts, *plan.orders]
        self.command("retrain", "training.retraining.retrain", *given, *plan.retrain)
        self.turn.table_version = int(json.loads((run / "retraining.json").read_text())["table_version"])

    def _judge_offline(self) -> None:
        plan, turn, out = self.plan, self.turn, self.folder / "offline.json"
        given = ["--groups", f"{plan.lake / 'groups'}@{turn.table_version}", "--live", turn.live_family]
        given += ["--candidate", self.family, "--out", out]
        verdict = self._verdict("offline", out, *given, *plan.offline_gate)
        if verdict["verdict"] != PASSED:
            turn.outcome = REFUSED

    def _export(self) -> None:
        turn, repository = self.turn, self.plan.repository
        if turn.releases_before is None:
            turn.releases_before = repository.numbers()
            turn.write(self.folder)
        if not self._exported():
            given = ["--weights", self.family, "--repository", repository.root]
            self.command("export", "training.exporting.export", *given)
        turn.candidate = self._exported()[-1]
        self._keep_verdict("offline")

    def _exported(self) -> list[int]:
        """The releases that were made since, of this turn's family; others may export, too."""
        repository, before = self.plan.repository, self.turn.releases_before or []
        trained_on = read_record(self.family / "retraining.json")
        return [
            number
            for number in repository.numbers()
            if number not in before and read_manifest(repository.release_dir(number)).trained_on == trained_on
        ]

    def _start_trial(self) -> None:
        candidate = str(self.turn.candidate)
        self.release("load", "load", candidate)
        self.turn.trial_since = datetime.now(UTC).isoformat(timespec="seconds")
        self.release("trial", "trial", candidate, "--share", f"{self.plan.trial_share:g}")

    def _judge_by_traffic(self) -> None:
        turn, out = self.turn, self.folder / "traffic.json"
        if (changed := self._overruled()) is not None:
            self.say(f"the turn ends: {changed}")
            turn.outcome = PROMOTED if self.plan.repository.live() == turn.candidate else OVERRULED
            return
        given = ["--groups", self.plan.lake / "groups", "--live", turn.live, "--trial", turn.candidate]
        given += ["--since", turn.trial_since, "--out", out]
        verdict = self._verdict("traffic", out, *given, *self.plan.traffic_gate)
        point = int(verdict["groups"]), float(verdict["e_value"])
        if not turn.e_values or tuple(turn.e_values[-1]) != point:
            turn.e_values.append(point)
        if verdict["verdict"] == UNDECIDED:
            time.sleep(POLL_S)
            return
        self._keep_verdict("traffic")
        reason = "; ".join(verdict["reasons"])
        if verdict["verdict"] == PROMOTED:
            self.release("promote", "promote", str(turn.candidate), "--reason", reason)
        else:
            self.release("end trial", "end-trial", str(turn.candidate), "--reason", reason)
        turn.outcome = verdict["verdict"]

    def _overruled(self) -> str | None:
        """What somebody did to the trial, or this turn before it was interrupted; None: it goes on."""
        turn, repository = self.turn, self.plan.repository
        live, trial = repository.live(), read_rollout(repository.root).trial
        if (live, trial) == (turn.live, turn.candidate):
            return None
        return f"release {live} is live and {f'release {trial}' if trial else 'none'} on trial"

    def _verdict(self, kind: str, path: Path, *arguments: object) -> dict[str, Any]:
        """What a gate says now.

        Raises:
            TurnError: it says nothing.
        """
        path.unlink(missing_ok=True)
        log = self.command(f"{kind} gate", "training.retraining.gate", kind, *arguments, may_refuse=True)
        if not path.exists():
            raise TurnError(f"the {kind} gate wrote no verdict; the end of {log}:\n{_end(log)}")
        verdict: dict[str, Any] = json.loads(path.read_text())
        self.turn.verdicts[kind] = verdict
        self.say(f"{kind} gate: {verdict['verdict']}: {'; '.join(verdict['reasons'])}")
        return verdict

    def _keep_verdict(self, kind: str) -> None:
        """Beside the release, where `deploy.releases status` finds it."""
        path = self.plan.repository.root / "releases" / "verdicts" / f"{self.turn.candidate}-{kind}.json"
        write_durably(path, json.dumps(self.turn.verdicts[kind], indent=1) + "\n")

    def release(self, step: str, *arguments: str) -> None:
        """A command of deploy.releases, which waits while the keeper revives a model."""
        layout = self.plan.layout
        where = ["--repository", layout.model_repository, "--triton", layout.address("triton_grpc")]
        where += ["--kafka", layout.address("kafka"), "--wait", "120"]
        where += ["--certificates", Authority(layout.home).folder(CONTROLLER)]
        self.command(step, "deploy.releases", *arguments, *where)

    def command(self, step: str, module: str, *arguments: object, may_refuse: bool = False) -> Path:
        """Runs a command to its end; what it says goes to a file named after the step, which is returned.

        Raises:
            TurnError: it failed, or refused without leave.
        """
        log = self.folder / f"{step.replace(' ', '-')}.log"
        self.folder.mkdir(parents=True, exist_ok=True)
        began = time.monotonic()
        with log.open("w") as file:
            ended = subprocess.run(
                [str(venv("") / "bin" / "python"), "-m", module, *map(str, arguments)],
                cwd=ROOT, env=environment(), stdout=file, stderr=subprocess.STDOUT, check=False,
            )  # fmt: skip
        took_s = time.monotonic() - began
        if ended.returncode not in ((0, 1) if may_refuse else (0,)):
            raise TurnError(f"{step} failed ({module}, exit status {ended.returncode}); the end of {log}:\n{_end(log)}")
        self.turn.took_s[step] = round(self.turn.took_s.get(step, 0.0) + took_s, 1)
        if step != "traffic gate":  # which is asked again and again
            self.say(f"{step}: done in {took_s:.0f} s")
        return log


def turns_in(work: Path) -> list[Turn]:
    """All turns of a folder, in their order."""
    found = [Turn.read(folder) for folder in work.glob("turn-*")]
    return sorted((turn for turn in found if turn is not None), key=lambda turn: turn.number)


def read_record(path: Path) -> dict[str, str]:
    """The table and its version that a retraining's record names."""
    record = json.loads(path.read_text())
    return {"table": str(record["table"]), "version": str(record["table_version"])}


def _end(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-15:])


def environment() -> dict[str, str]:
    """Of a command that runs from the source tree, one thread for its mathematics, beside what serves."""
    path = os.pathsep.join(str(ROOT / part) for part in ("", "protos/gen", "protos/client"))
    return clean_environment() | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


def say(line: str) -> None:
    """One line of progress with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {line}", file=sys.stderr, flush=True)
