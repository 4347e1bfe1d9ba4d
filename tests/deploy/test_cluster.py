"""What the local cluster says when it cannot start: one clear message each."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.__main__ import REPOSITORY, main
from deploy.local.cluster import Cluster, ClusterError
from deploy.local.layout import ROOT, Layout
from deploy.local.parts import PARTS, service_environment
from tests.ports import free_offset


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A model repository with a release number and no models: enough for a part to try to start."""
    (tmp_path / "releases").mkdir()
    (tmp_path / "releases" / "current").write_text("1\n")
    return tmp_path


@pytest.fixture
def cluster(repository: Path) -> Iterator[Cluster]:
    made = Cluster(Layout("message-test", free_offset(), repository))
    yield made
    made.down()
    shutil.rmtree(made.layout.home, ignore_errors=True)


def test_a_port_in_use_is_named_with_its_remedy(cluster: Cluster) -> None:
    port = cluster.layout.port("ranking")
    in_use = pytest.raises(ClusterError, match=f"port {port}, which ranking needs, is in use.*PORT_OFFSET")
    with socket.create_server(("127.0.0.1", port)), in_use:
        cluster.up(["ranking"])


def test_a_pointer_that_names_no_number_is_said(cluster: Cluster, repository: Path) -> None:
    (repository / "releases" / "current").write_text("the last one")
    with pytest.raises(ClusterError, match="releases/current cannot be read"):
        cluster.up(["ranking"])


def test_a_missing_release_is_named_with_its_remedy(cluster: Cluster, repository: Path) -> None:
    (repository / "releases" / "current").unlink()
    with pytest.raises(ClusterError, match="make export"):
        cluster.up(["ranking"])


def test_a_repository_of_ones_own_is_remembered_until_another_is_given(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "a repository of one's own"

    def run(*arguments: str) -> None:
        layout = cluster.layout
        options = ["--name", layout.name, "--port-offset", str(layout.port_offset)]
        monkeypatch.setattr("sys.argv", ["deploy.local", *arguments, *options])
        main()

    with pytest.raises(SystemExit, match="there is no release in .*one's own: export one there"):
        run("up", "ranking", "--model-repository", str(own))
    (own / "releases" / "1").mkdir(parents=True)
    (own / "releases" / "1" / "manifest.json").write_text("{}")
    monkeypatch.setattr("deploy.local.cluster.PORT_LIMIT_S", 0.0)
    with socket.create_server(("127.0.0.1", cluster.layout.port("ranking"))):
        for arguments in (["up", "ranking", "--model-repository", str(own)], ["restart", "ranking"]):
            with pytest.raises(SystemExit, match="is in use by another program"):
                run(*arguments)
            assert cluster.layout.repository_file.read_text() == str(own)
        with pytest.raises(SystemExit, match="is in use by another program"):
            run("up", "ranking", "--model-repository", str(REPOSITORY))
    assert not cluster.layout.repository_file.exists(), "the project's own again"
    run("status")
    assert "stopped" in capsys.readouterr().out


def test_a_part_that_dies_at_its_start_shows_its_last_lines(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-XX:NoSuchOption")
    home = cluster.layout.home / f"kafka-{cluster.layout.port('kafka')}" / "data"
    home.mkdir(parents=True)
    (home / "meta.properties").touch()  # as if formatted before
    with pytest.raises(ClusterError, match=r"(?s)kafka died while starting.*NoSuchOption"):
        cluster.up(["kafka"])


def test_ports_of_all_parts_differ() -> None:
    layout = Layout()
    ports = [layout.port(name) for part in PARTS for name in part.ports]
    ports += [layout.metrics_port(part.name) for part in PARTS if part.ports == (part.name,)]
    assert len(set(ports)) == len(ports)


def test_missing_prerequisites_are_each_named_with_a_remedy(tmp_path: Path) -> None:
    """A PATH that has the shell's tools but neither Python, nor Java, nor Maven."""
    for tool in ("uname", "cut", "sort", "head", "sed", "getconf", "find", "grep"):
        (tmp_path / tool).symlink_to(shutil.which(tool) or tool)
    sh = shutil.which("sh") or "/bin/sh"
    script = str(ROOT / "deploy" / "local" / "prerequisites.sh")
    answer = subprocess.run([sh, script], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    missing = [line.split(";")[0] for line in answer.stderr.splitlines()]
    assert missing == ["missing: python3.11", "missing: Java 17", "missing: Maven"]
    assert all("remedy: apt-get install" in line for line in answer.stderr.splitlines())


def test_settings_that_a_person_gives_to_all_reach_the_services(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TRACES_TO", "TRACES_SHARE", "LOG_LEVEL", "TRITON_ADDRESS"):
        monkeypatch.setenv(f"PERFUSION_{name}", "mine")
    told = service_environment(cluster.layout, "ranking")
    assert [told[f"PERFUSION_{name}"] for name in ("TRACES_TO", "TRACES_SHARE", "LOG_LEVEL")] == ["mine"] * 3
    assert told["PERFUSION_TRITON_ADDRESS"] == cluster.layout.address("triton_grpc")
