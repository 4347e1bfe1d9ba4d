"""Parts of the loop killed (SIGKILL) at random moments under traffic, again and again, and what that costs.

Services, Triton and the broker are started again at once, as Kubernetes would do it; clients repeat a call that may be
tried again as the same request. Then the tables are compared with what the clients were told:

    lost          picks that a client has an OK for and that no table has
    duplicated    rows of an event or a group beyond one
    unretryable   calls that failed without leave to try again

A retraining is killed and resumed; it has lost what its family lacks or has otherwise than the family of one that
nobody disturbed. What each part cost is kept in faults.json, so that an interrupted campaign goes on with the next.
Knows the loop's processes and tables; not how any of them works.
"""

import hashlib
import json
import random
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tqdm import tqdm

from contract.repository import write_durably
from deploy.local.cluster import Cluster
from deploy.local.layout import ROOT, venv
from deploy.loop.collector import Collector
from deploy.loop.records import Shown
from deploy.loop.traffic import Traffic
from deploy.loop.turn import Plan, TurnError, environment, say
from training.data.delta import DeltaName, pinned_delta

CLUSTER_PARTS = ("feedback", "triton", "kafka")
RETRAIN = "retrain"
MOST_WAIT_S = 4.0  # before a part is killed: long enough for several rounds, and for a commit of collect
PATIENCE_S = 240.0  # for rounds to go on, and for collect to have everything
RETRAIN_STEPS = 20  # of the reward model that is trained while it is killed


@dataclass(frozen=True)
class Cost:
    """What killing one part cost."""

    kills: int
    lost: int
    duplicated: int
    unretryable: int


@dataclass
class Faults:
    """Kills parts of one loop, whose platform runs and whose merchants play persistently."""

    plan: Plan
    cluster: Cluster
    collector: Collector
    traffic: Traffic
    seed: int = 0
    _drawn: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self._drawn = random.Random(self.seed)

    def all(self, kills: int) -> dict[str, dict[str, int]]:
        """Each part in turn, so many times; the costs as report.json has them."""
        kept = self.traffic.folder / "faults.json"
        found = json.loads(kept.read_text()) if kept.exists() else {}
        for name in (*CLUSTER_PARTS, "collect", RETRAIN):
            if name not in found:
                found[name] = asdict(self.of_retrain(kills) if name == RETRAIN else self.of(name, kills))
                write_durably(kept, json.dumps(found, indent=1) + "\n")
        return found

    def of(self, name: str, kills: int) -> Cost:
        """Of a part of the cluster, or collect.

        Raises:
            TrafficError: rounds did not go on after a kill.
        """
        rounds, failed = len(self.traffic.rounds), len(self.traffic.failed)
        with self.traffic.playing():
            for _ in tqdm(range(kills), desc=f"killing {name}", unit="kill"):
                time.sleep(self._drawn.uniform(0, MOST_WAIT_S))
                self._kill(name)
                self.traffic.await_rounds(self.traffic.workers, PATIENCE_S)
        told = self.traffic.rounds[rounds:]
        lost, duplicated = self._compared(told)
        return Cost(kills, lost, duplicated, sum(not each.retryable for each in self.traffic.failed[failed:]))

    def _kill(self, name: str) -> None:
        if name == "collect":
            self.collector.kill()
            self.collector.start()
        else:
            self.cluster.kill(name)
            time.sleep(self._drawn.uniform(0, 1))
            self.cluster.up([name])

    def of_retrain(self, kills: int) -> Cost:
        """Of retrainings of the groups that there are now."""
        for earlier in (self.traffic.folder / "undisturbed", *self.traffic.folder.glob("killed-*")):
            shutil.rmtree(earlier, ignore_errors=True)  # of an interrupted run, on another version
        began, groups = time.monotonic(), pinned_delta(DeltaName(str(self.plan.lake / "groups")))
        self._retrain(groups, "undisturbed")
        whole_s, wanted = time.monotonic() - began, _contents(self.traffic.folder / "undisturbed" / "family")
        lost, runs, left = 0, 0, kills
        with tqdm(total=kills, desc="killing retrain", unit="kill") as bar:
            while left:
                runs += 1
                name = f"killed-{runs}"
                while left and self._retrain(groups, name, kill_after_s=self._drawn.uniform(0, whole_s)):
                    left -= 1
                    bar.update()
                self._retrain(groups, name)
                got = _contents(self.traffic.folder / name / "family")
                lost += sum(wanted.get(path) != got.get(path) for path in wanted.keys() | got.keys())
                shutil.rmtree(self.traffic.folder / name)
        return Cost(kills, lost, 0, 0)

    def _retrain(self, groups: DeltaName, name: str, kill_after_s: float | None = None) -> bool:
        """Whether it was killed before its end.

        Raises:
            TurnError: it failed.
        """
        plan = self.plan
        command = [venv("") / "bin" / "python", "-m", "training.retraining.retrain"]
        command += [
            "--out",
            self.traffic.folder / name,
            "--groups",
            groups,
            "--original",
            plan.original,
            "--weights",
            plan.family,
        ]
        command += ["--parts", "wishes,reward", "--reward-steps", str(RETRAIN_STEPS)]
        log = self.traffic.folder / f"retrain-{name}.log"
        with log.open("a") as file:
            process = subprocess.Popen(
                [str(word) for word in command], cwd=ROOT, env=environment(), stdout=file, stderr=subprocess.STDOUT
            )
            try:
                status = process.wait(kill_after_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                return True
        if status:
            raise TurnError(f"retrain failed (exit status {status}); {log} has why")
        return False

    def _compared(self, told: Sequence[Shown]) -> tuple[int, int]:
        """Lost and duplicated, once collect has had the time to read everything."""
        picked = [shown for shown in told if shown.event_id]
        picks, groups = {shown.event_id for shown in picked}, {shown.group_id for shown in picked}
        until = time.monotonic() + PATIENCE_S
        while True:
            events, joined = self.collector.ids("events"), self.collector.ids("groups")
            lost = len(picks - events.keys()) + len(groups - joined.keys())
            duplicated = events.total() - len(events) + joined.total() - len(joined)
            if not lost or time.monotonic() > until:
                break
            time.sleep(1)
        say(f"{len(picks)} picks and {len(groups)} groups were acknowledged: {lost} lost, {duplicated} duplicated")
        return lost, duplicated


def _contents(folder: Path) -> dict[str, str]:
    """The files of a family by their SHA-256; but for the record, which has times in it."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != "retraining.json")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}
