"""The client wheel: built without network, holding the stubs and the client and nothing else."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROTOS = ROOT / "protos"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, PROTOS / "wheel.py", out], check=True, env={}, stdout=subprocess.DEVNULL)
    [built] = out.iterdir()
    return built


def sources(root: Path) -> set[str]:
    return {
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def metadata(wheel: Path) -> str:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith("/METADATA")]
        return archive.read(name).decode()


def test_it_holds_every_stub_and_the_client_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == sources(PROTOS / "gen") | sources(PROTOS / "client")
    assert {"perfusion/v1/py.typed", "perfusion/client/py.typed"} <= held
    assert "perfusion/__init__.py" not in held


def test_it_needs_grpc_and_protobuf_alone_on_any_platform(wheel):
    assert re.fullmatch(r"perfusion_client-[0-9.]+-py3-none-any\.whl", wheel.name)
    needed = re.findall(r"^Requires-Dist: ([a-z]+)", metadata(wheel), re.MULTILINE)
    assert sorted(needed) == ["grpcio", "protobuf"]


def test_its_floors_are_the_versions_that_the_generated_code_asks_for(wheel):
    stub = (PROTOS / "gen/perfusion/v1/group_pb2.py").read_text()
    [protobuf] = re.findall(r"^# Protobuf Python Version: (\S+)$", stub, re.MULTILINE)
    [grpc] = re.findall(
        r"^GRPC_GENERATED_VERSION = '(\S+)'$", (PROTOS / "gen/perfusion/v1/group_pb2_grpc.py").read_text(), re.MULTILINE
    )
    needed = re.findall(r"^Requires-Dist: (\S+)", metadata(wheel), re.MULTILINE)
    assert f"grpcio>={grpc}" in needed
    assert f"protobuf<7,>={protobuf}" in needed


def test_it_leaves_nothing_in_the_source_tree(wheel):
    assert {path.name for path in PROTOS.iterdir()} & {"build", "dist", "perfusion_client.egg-info"} == set()


def test_it_imports_without_the_source_tree(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    script = "from perfusion.client import PerFusion; import perfusion.v1.group_pb2 as g; print(g.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", script], env={"PYTHONPATH": str(tmp_path)}, check=True, capture_output=True, text=True
    )
    assert done.stdout.startswith(str(tmp_path))
