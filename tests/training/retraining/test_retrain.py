"""The command: what it refuses before long work, and whether a retraining is due."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from contract.feature_schema import FeatureSchema
from tests.training.retraining.shops import shown, table
from training.retraining.retrain import NOT_DUE, main, parse_arguments, plan_of


@pytest.fixture
def run(tmp_path: Path, schema: FeatureSchema, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "groups", shown(5, "g", candidates=2), schema)
    monkeypatch.setitem(sys.modules, "training.retraining.retraining", None)  # no case here comes so far

    def call(*more: str) -> int:
        given = ["--groups", "groups", "--original", "groups", "--out", "run", *more]
        monkeypatch.setattr(sys, "argv", ["retrain", *given])
        return main()

    return call


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--parts", "wishes,taste"), "parts are wishes, reward, adapter, student; taste is none"),
        (("--parts", "adapter"), "give --repository"),
        (("--original-share", "1.2"), "the share of original data is 1.2"),
        (("--hold-out", "1.5"), "hold-out is 1.5"),
        (("--reward-steps", "0"), "steps is 0"),
        (("--distil", "--student-steps", "0"), "jump_steps is 0"),
    ],
)
def test_bad_arguments_are_named_before_long_work(
    run: Callable[..., int], given: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*given) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("retraining stopped: ") and told in line


@pytest.mark.parametrize(
    ("given", "status", "told"),
    [
        (("--min-new", "6"), NOT_DUE, "not due: 5 of 6 new groups\n"),
        (("--min-new", "6", "--check"), NOT_DUE, "not due: 5 of 6 new groups\n"),
        (("--min-new", "5", "--check"), 0, "due\n"),
        (("--every", "24", "--check"), 0, "due\n"),
    ],
)
def test_nothing_happens_before_it_is_due(
    run: Callable[..., int], given: tuple[str, ...], status: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*given) == status
    assert capsys.readouterr().out == told and not Path("run").exists()


def test_a_missing_table_is_an_error_and_not_a_retraining_that_is_not_due(
    run: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--min-new", "5", "--groups", "absent") == 1
    assert "cannot tell whether it is due: absent does not exist" in capsys.readouterr().err


def test_a_student_is_distilled_after_all_other_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    given = ["--groups", "g", "--original", "o", "--out", "run", "--distil", "--student-steps", "7"]
    for parts, wanted in ((), ("wishes", "reward", "student")), (("--parts", "student,wishes"), ("wishes", "student")):
        monkeypatch.setattr(sys, "argv", ["retrain", *given, *parts])
        plan = plan_of(parse_arguments())
        assert plan.parts == wanted
        assert (plan.student.jump_steps, plan.student.way_steps) == (7, 7)
        assert list(plan.recipes())[-1] == "student"
