"""The gate's command: verdicts of both kinds, for failures too, and refusals that cost no minutes."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from contract.feature_schema import FeatureSchema
from tests.training.retraining.lake import LIVE, TRIAL, mixed_row, write_lake
from tests.training.retraining.two_families import Two
from training.models.family import FamilyPaths
from training.retraining.gate import main
from training.retraining.verdicts import Verdict

Run = Callable[..., int]
OUT = Path("verdicts/7.json")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> int:
        monkeypatch.setattr(sys, "argv", ["gate", *map(str, words)])
        return main()

    return call


def traffic(table: object, *more: object) -> tuple[object, ...]:
    return ("traffic", "--groups", table, "--live", LIVE, "--trial", TRIAL, "--since", "2026-11-26T07:00Z", "--out",
            OUT, "--most-hours", 1e6, *more)  # fmt: skip


@pytest.fixture
def lake(tmp_path: Path, schema: FeatureSchema) -> Path:
    """Merchants who pick the trial's candidates three times in four."""
    rng, rows = np.random.default_rng(0), []
    for n in range(200):
        on_trial = rng.permutation(5) < rng.integers(2, 4)
        side = rng.random() < 0.75
        rows.append(mixed_row(n, f"m{n % 40}", on_trial, np.arange(5) == rng.choice(np.flatnonzero(on_trial == side))))
    return write_lake(tmp_path / "lake", rows, schema)


def test_a_verdict_under_traffic_is_written_printed_and_shown(
    run: Run, lake: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*traffic(lake)) == 0
    verdict = Verdict.read(OUT)
    assert (verdict.kind, verdict.live, verdict.candidate, verdict.verdict) == ("traffic", LIVE, TRIAL, "promote")
    assert verdict.table_version == 0 and verdict.merchants == 40 and verdict.e_value and verdict.e_value >= 20
    printed = capsys.readouterr().out
    assert run("show", OUT) == 0 and capsys.readouterr().out == printed
    assert run(*traffic(f"{lake}@0", "--promote-at", 1e9)) == 0 and Verdict.read(OUT).verdict == "undecided"
    assert run(*traffic(lake, "--live", TRIAL, "--trial", LIVE)) == 0 and Verdict.read(OUT).verdict == "undecided"


@pytest.mark.parametrize(("more", "told"), [
    (("--groups", "absent"), "the gate failed: absent does not exist"),
    (("--trial", LIVE), "the gate failed: release 6 cannot be on trial against itself"),
    (("--groups", "{lake}@9"), "has no version 9 yet"),
    (("--flood", "2"), "the gate failed: flood is 2.0, not a share"),
])  # fmt: skip
def test_a_traffic_gate_that_fails_leaves_no_old_promotion(
    run: Run, lake: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, str], told: str
) -> None:
    assert run(*traffic(lake)) == 0 and Verdict.read(OUT).verdict == "promote"
    option, value = more
    assert run(*traffic(lake, option, str(value).format(lake=lake))) == 1
    assert told in capsys.readouterr().err
    failed = Verdict.read(OUT)
    assert failed.verdict == "undecided" and told.removeprefix("the gate failed: ") in failed.reasons[0]


def test_a_failing_gate_still_ends_a_trial_that_is_out_of_time(run: Run) -> None:
    assert run(*traffic("absent", "--most-hours", "0.001", "--since", "2020-01-01T00:00Z")) == 1
    verdict = Verdict.read(OUT)
    assert verdict.verdict == "roll back" and "undecided after 0.001 hours" in verdict.reasons[0]
    assert "absent does not exist" in verdict.reasons[1]


def test_an_offline_verdict_on_two_families(
    run: Run, tmp_path: Path, family: FamilyPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    two = Two.at(tmp_path, family)
    few = ("--held-out", 16, "--drawn", 4, "--candidates", 2, "--checked", 6, "--least-groups", 10,
           "--least-merchants", 4, "--diversity-floor", 0)  # fmt: skip
    command = ("offline", "--groups", two.table, "--live", two.live, "--candidate", two.candidate, "--out", OUT, *few)
    assert run(*command, "--judge", two.judge, "--least-judge-gauc", 0, "--latency", 100, "--agreement", 1) == 0
    verdict = Verdict.read(OUT)
    assert verdict.verdict == "pass", verdict.reasons
    assert (verdict.groups, verdict.merchants, verdict.candidate) == (16, 12, str(two.candidate))
    assert verdict.figures["judge_score"]["difference"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "groups": 4}
    assert "pass: offline gate" in capsys.readouterr().out

    assert run(*command, "--judge", two.live) == 1  # known before anything is drawn
    assert Verdict.read(OUT).verdict == "refuse" and "is the family" in Verdict.read(OUT).reasons[0]
    (two.candidate / "retraining.json").unlink()
    assert run(*command) == 1 and "give --trained-until" in Verdict.read(OUT).reasons[0]
    assert run(*command, "--trained-until", "2026-11-27") == 1
    assert "no group with a pick is newer" in Verdict.read(OUT).reasons[0]


def test_an_offline_gate_that_is_killed_has_refused(
    run: Run, tmp_path: Path, family: FamilyPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def killed(_: object) -> None:
        seen.append(json.loads(OUT.read_text()))
        raise KeyboardInterrupt

    monkeypatch.setattr("training.retraining.gate.trained_on", killed)
    two = Two.at(tmp_path, family)
    with pytest.raises(KeyboardInterrupt):
        run("offline", "--groups", two.table, "--live", two.live, "--candidate", two.candidate, "--out", OUT)
    (before,) = seen
    assert before["verdict"] == "refuse" and "did not come to its end" in before["reasons"][0]
    assert Verdict.read(OUT).reasons == ("the gate failed: KeyboardInterrupt",)


def test_a_traffic_gate_that_is_killed_leaves_no_old_promotion(
    run: Run, lake: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(*traffic(lake)) == 0 and Verdict.read(OUT).verdict == "promote"
    seen = []

    def killed(*_: object) -> None:
        seen.append(Verdict.read(OUT))
        raise KeyboardInterrupt

    monkeypatch.setattr("training.retraining.gate.judge", killed)
    with pytest.raises(KeyboardInterrupt):
        run(*traffic(lake, "--most-hours", "0.001", "--since", "2020-01-01T00:00Z"))
    assert seen[0].verdict == "undecided" and "did not come to its end" in seen[0].reasons[0]


@pytest.mark.parametrize("text", ["", "{}"])
def test_what_is_no_verdict_is_not_shown(
    run: Run, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "v.json").write_text(text)
    assert run("show", "v.json") == 1 and "v.json" in capsys.readouterr().err
