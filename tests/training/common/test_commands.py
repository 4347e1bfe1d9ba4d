"""Every command: --help at once and without torch. Those of training: wrong arguments before any work, refusals in a
line."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from training.common.places import FAMILY_PARTS
from training.models.family import FamilyPaths

ROOT = Path(__file__).parents[3]
COMMANDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for part in ("training", "lab", "deploy")
    for path in (ROOT / part).rglob("*.py")
    if 'if __name__ == "__main__"' in path.read_text(encoding="utf-8")
    and path.parent.name != "contestants"  # which the race starts, in an environment of their own
)
TRAININGS = [
    "training.reward.train",
    "training.generator.train",
    "training.generator.train_spo",
    "training.wishes.train",
]
READERS = [*TRAININGS, "training.reward.evaluate", "training.generator.evaluate"]
HELP_S = 2.0  # of the processor's time, which other work on the machine changes little
HEAVY = {"torch", "transformers", "diffusers", "onnxruntime", "scipy", "matplotlib"}
MEASURED = f"""
import json, resource, runpy, sys
sys.argv = [sys.argv[1], *sys.argv[2:]]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=False)
except SystemExit as ended:
    used = resource.getrusage(resource.RUSAGE_SELF)
    heavy = sorted({HEAVY} & sys.modules.keys())
    print(json.dumps([ended.code, used.ru_utime + used.ru_stime, heavy]))
"""


@pytest.mark.parametrize("module", COMMANDS)
def test_help_needs_no_torch_and_little_time(module: str) -> None:
    command = [sys.executable, "-c", MEASURED, module, "--help"]
    paths = os.pathsep.join(str(ROOT / path) for path in ("", "protos/gen", "protos/client"))
    where = {"cwd": ROOT, "env": os.environ | {"PYTHONPATH": paths}}
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True, **where)
    code, seconds, heavy = json.loads(done.stdout.splitlines()[-1])
    assert not code and heavy == [] and seconds < HELP_S


def test_an_export_can_take_every_part_of_a_family_from_elsewhere() -> None:
    assert set(FAMILY_PARTS) == {field.name for field in fields(FamilyPaths)}


def in_process(
    module: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """What a command that is refused says on stderr."""
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    assert importlib.import_module(module).main() == 1
    told = capsys.readouterr()
    assert told.out == "" and len(told.err.splitlines()) == 1
    return told.err


@pytest.mark.parametrize("module", READERS)
@pytest.mark.parametrize("path", ["nowhere", "gs://bucket/table"])
def test_a_path_that_is_no_table_is_refused_at_once_and_says_what_a_table_is(
    module: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    more = ["--reward", "run"] if module.endswith("generator.evaluate") else ["--out", "out"]
    told = in_process(module, ["--data", path, *more], monkeypatch, capsys)
    assert "a table is a folder of groups-*.parquet with feature_schema.json beside them" in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--max-batch", "--instances"])
@pytest.mark.parametrize("number", ["0", "-1", "many"])
def test_a_contract_of_no_batch_is_refused(option: str, number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["write_contracts", "--weights", "nowhere", "--out", "nowhere", option, number])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module("training.exporting.write_contracts").main()
    assert ended.value.code == 2


def test_a_repository_that_is_a_file_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    told = in_process("training.exporting.export", ["--repository", str(tmp_path / "file")], monkeypatch, capsys)
    assert "export refused: " in told


NUMBERS = {
    "training.reward.train": ["--steps 0", "--steps -3", "--lr -1", "--lr nan", "--seed -1", "--groups-per-batch 0"],
    "training.generator.train": ["--accumulate 0", "--kappa inf", "--sheet-every -1"],
    "training.generator.train_spo": ["--seed -1"],
}


@pytest.mark.parametrize(("module", "number"), [(m, number) for m, numbers in NUMBERS.items() for number in numbers])
def test_a_number_that_no_training_could_use_is_refused_before_any_work(
    module: str, number: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    told = in_process(module, ["--data", "nowhere", "--out", "out", *number.split()], monkeypatch, capsys)
    option, value = number.split()
    assert f"{option.removeprefix('--').replace('-', '_')} is {value}" in told.replace("-1.0", "-1")
    assert list(tmp_path.iterdir()) == []
