"""The command: what it says, and what it refuses in one line."""

import sys
from pathlib import Path

import pytest

from contract.repository import Repository
from tests.training.exporting.stand_in import stand_in
from training.exporting import staging
from training.exporting.export import main
from training.models.family import FamilyPaths


def test_the_command_says_in_one_line_why_it_refuses(
    exported: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", "--weights", str(tmp_path / "nowhere"), "--repository"]
    for repository, told in ((exported.root, "nowhere/pipeline is missing"), (tmp_path, "config.pbtxt is missing")):
        monkeypatch.setattr(sys, "argv", [*command, str(repository)])
        assert main() == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith("export refused: ") and told in line


def test_the_command_says_what_serves_and_what_to_do_next(
    copied: Repository,
    published: FamilyPaths,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(staging, "_export_all", stand_in)
    parts = [f"--{part.replace('_', '-')}={path}" for part, path in vars(published).items()]
    monkeypatch.setattr(sys, "argv", ["export", *parts, "--repository", str(copied.root)])
    assert main() == 0
    assert capsys.readouterr().out.splitlines() == [
        "release 1 holds this family already, nothing is written",
        "no release is live yet: the first start of the platform on this repository (make up) promotes it",
    ]
    copied.point(1, None)
    (tmp_path / "defaults.json").write_text('{"num_steps": 7}')
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--defaults", str(tmp_path / "defaults.json")])
    assert main() == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("release 2 staged in ")
    assert second == f"release 1 serves on; next: python -m deploy.releases load 2 --repository {copied.root}"
