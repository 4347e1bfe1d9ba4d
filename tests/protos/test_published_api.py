"""The released API: what buf lets a change do to it. Knows buf and protos/published.binpb; needs no network."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVICE = "protos/perfusion/v1/generation_service.proto"


@pytest.fixture
def copy(tmp_path) -> Path:
    """The .proto files, buf's rules and the released API, to be changed."""
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    shutil.copytree(ROOT / "protos/perfusion", tmp_path / "protos/perfusion")
    (tmp_path / "protos/gen").mkdir()
    shutil.copy(ROOT / "protos/published.binpb", tmp_path / "protos")
    return tmp_path


def breaking(root: Path) -> subprocess.CompletedProcess[str]:
    buf = Path(sys.executable).parent / "buf"
    command = [buf, "breaking", "--against", "protos/published.binpb"]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def change(root: Path, old: str, new: str) -> None:
    text = (root / SERVICE).read_text()
    assert text.count(old) == 1
    (root / SERVICE).write_text(text.replace(old, new))


def test_what_was_released_is_all_there(copy):
    done = breaking(copy)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr


def test_a_removed_field_is_refused_by_name(copy):
    change(copy, "  string negative_prompt = 4;\n", "")
    done = breaking(copy)
    assert done.returncode == 100
    assert 'field "4" with name "negative_prompt"' in done.stdout


def test_a_new_field_is_allowed(copy):
    change(copy, "  string negative_prompt = 4;\n", "  string negative_prompt = 4;\n  string mood = 100;\n")
    assert breaking(copy).returncode == 0
