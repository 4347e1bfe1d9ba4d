"""The command line: what is wrong is said in a line, before Kafka is asked for anything."""

import sys
from pathlib import Path

import pytest

from training.retraining import collect, erase


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["collect", *arguments])
    return collect.main()


def test_a_batch_of_nothing_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(monkeypatch, "--kafka", "127.0.0.1:1", "--lake", "x", "--batch", "0")
    assert "--batch is at least 1" in capsys.readouterr().err


def test_a_lake_without_a_feature_schema_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(monkeypatch, "--kafka", "127.0.0.1:1", "--lake", str(tmp_path), "--once") == 1
    said = capsys.readouterr().err
    assert said.startswith("collecting stopped: ") and "give --feature-schema" in said and said.count("\n") == 1


def test_an_erasure_says_what_is_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(
        sys, "argv", ["erase", "--lake", str(tmp_path), "--user", "store-1", "--prepared", str(tmp_path)]
    )
    assert erase.main() == 0
    assert "0 events, 0 groups and 0 events of the shop erased" in capsys.readouterr().out
