"""The script of the retraining: its steps in order, once each, whatever was interrupted; its commands are stand-ins."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.k8s.manifests import K8S

SCRIPT = K8S / "base" / "retraining" / "retrain.sh"
PYTHON = """\
#!/bin/sh
# A stand-in: it notes what it was asked, fails where FAILS says, and leaves what the real command would.
[ "$1" = -c ] && exec REAL "$@"
echo "$2 $3" >> "$NOTES"
option() { wanted=$1; shift; while [ "$1" != "$wanted" ]; do shift; done; echo "$2"; }
case "$2 $3" in
    *$FAILS*) exit "$STATUS" ;;
    *"agent fetch")
        [ -z "$LIVE" ] || { mkdir -p "$WORK/model_repository/releases/$LIVE"
            echo "$LIVE" > "$WORK/model_repository/releases/current"; } ;;
    *".retrain "*)
        out=$(option --out "$@")
        option --last "$@" > "$WORK/last"
        mkdir -p "$out/family"
        echo '{"table": "lake", "table_version": 12}' > "$out/retraining.json" ;;
    *"gate offline")
        option --live "$@" > "$WORK/live"
        echo "{\\"verdict\\": \\"$VERDICT\\"}" > "$(option --out "$@")" ;;
    *export*) mkdir -p "$WORK/model_repository/releases/7" ;;
    *"agent push") echo "$4" >> "$WORK/pushed" ;;
esac
"""
RETRAIN, OFFLINE = "training.retraining.retrain", "training.retraining.gate offline"
EXPORT, PUSH = "training.exporting.export", "deploy.releases.agent push"


@dataclass(frozen=True)
class Job:
    """The CronJob's container, without a cluster."""

    folder: Path

    def run(self, *, fails: str = "nothing", status: int = 1, verdict: str = "pass", live: str = "6") -> int:
        """One look; returns the script's exit status."""
        (self.folder / "notes").write_text("")
        told = {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "WORK": str(self.work), "NOTES": str(self.folder / "notes"),
            "FAILS": fails, "STATUS": str(status), "VERDICT": verdict, "LIVE": live,
            "LAKE": "s3://bucket/lake", "ORIGINAL": "s3://bucket/original", "FAMILY": "tiny", "PARTS": "wishes",
            "MIN_NEW": "500", "EVERY_HOURS": "24", "ORDER_WEIGHT": "0", "PERFUSION_RELEASES_URL": "s3://bucket/releases",
        }  # fmt: skip
        return subprocess.run(["sh", SCRIPT], cwd=self.folder, env=told, check=False).returncode

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def asked(self) -> list[str]:
        """The commands of the last look that train, judge or give away."""
        said = [line.removesuffix(" --groups").removesuffix(" --weights") for line in self._notes()]
        return [line for line in said if line.split(" ")[-1] not in ("fetch", "show")]

    def _notes(self) -> list[str]:
        return (self.folder / "notes").read_text().splitlines()

    def outcomes(self) -> dict[int, str]:
        turns = sorted((self.work / "turns").iterdir())
        return {int(turn.name): (turn / "outcome").read_text().strip() for turn in turns if (turn / "outcome").exists()}


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "bin").mkdir()
    (tmp_path / "model_repository" / "denoiser").mkdir(parents=True)
    (tmp_path / "model_repository" / "denoiser" / "config.pbtxt").write_text("")
    program = tmp_path / "bin" / "python"
    program.write_text(PYTHON.replace("REAL", sys.executable))
    program.chmod(0o755)
    return Job(tmp_path)


def test_a_good_candidate_is_pushed_as_a_release(job: Job) -> None:
    assert job.run() == 0
    assert job.asked == [RETRAIN, OFFLINE, EXPORT, PUSH]
    assert (job.work / "pushed").read_text() == "7\n"
    assert job.outcomes() == {1: "release 7"}
    assert (job.work / "model_repository" / "denoiser" / "config.pbtxt").exists()


def test_nothing_happens_before_it_is_due(job: Job) -> None:
    assert job.run(fails=RETRAIN, status=3) == 0
    assert job.asked == [RETRAIN]
    assert job.outcomes() == {}


def test_a_refused_candidate_is_not_exported(job: Job) -> None:
    assert job.run(verdict="refuse") == 0
    assert job.asked == [RETRAIN, OFFLINE]
    assert job.outcomes() == {1: "refused"}


@pytest.mark.parametrize("step", [RETRAIN, OFFLINE, EXPORT, PUSH])
def test_a_turn_that_was_interrupted_goes_on(job: Job, step: str) -> None:
    assert job.run(fails=step) == 1
    assert job.outcomes() == {}
    assert job.run() == 0
    assert job.outcomes() == {1: "release 7"}


def test_the_next_turn_counts_from_the_last_and_is_judged_against_the_live_family(job: Job) -> None:
    job.run()
    assert (job.work / "last").read_text() == "none\n"
    assert (job.work / "live").read_text() == "tiny\n"
    (job.work / "families" / "6").write_text(f"{job.work}/turns/1/run/family\n")
    job.run()
    assert (job.work / "last").read_text() == f"{job.work}/turns/1/run\n"
    assert (job.work / "live").read_text() == f"{job.work}/turns/1/run/family\n"
    assert job.outcomes() == {1: "release 7", 2: "release 7"}


def test_before_any_release_is_live_the_base_family_is(job: Job) -> None:
    assert job.run(live="") == 0
    assert (job.work / "live").read_text() == "tiny\n"
    assert job.outcomes() == {1: "release 7"}


def test_without_a_store_nothing_is_trained(job: Job) -> None:
    assert job.run(fails="agent fetch") == 1
    assert job.asked == []
