"""The command that trains reward models: one at a time in a folder, and refusals before work."""

import subprocess
import sys
from pathlib import Path

import pytest

from training.reward.train import main

HOLDER = """
import sys
from pathlib import Path
from training.common.runs import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """What passes for arrays until they are read."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "features.npy").touch()
    return tmp_path / "data"


def test_a_second_training_in_a_folder_is_refused_before_any_work(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        monkeypatch.setattr(sys, "argv", ["train", "--data", str(data), "--out", str(tmp_path / "run")])
        assert main() == 1
        assert f"process {other.pid} on " in capsys.readouterr().err
        other.kill()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--model imagereward", "--blip and --model imagereward need each other"),
        ("--model hpsv2 --blip somewhere", "--blip and --model imagereward need each other"),
        ("--groups-per-batch 4 --accumulate 5", "4 groups a batch cannot be divided into 5 parts"),
        ("--weights nowhere", "nowhere/reward is missing: a family is a folder of pipeline/, reward/"),
    ],
)
def test_what_does_not_fit_is_refused(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: str,
    told: str,
) -> None:
    where = ["--data", str(data), "--out", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", ["train", *where, *options.split()])
    assert main() == 1
    assert told in capsys.readouterr().err
