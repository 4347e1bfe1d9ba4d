"""What the tests of several parts share: a real cluster of their own, beside any that a person runs.

Knows how to bring the cluster up once a session and down at its end; the tests of one part need none of it.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from contract.repository import Repository
from deploy.local.clients import Clients, connect
from deploy.local.cluster import Cluster
from deploy.local.layout import ROOT, Layout
from tests.ports import free_offset
from tests.repositories import copy_of
from tests.s3 import S3, running_s3

# The same examples at every run, however slow the machine; `pytest --hypothesis-profile thorough --timeout 0`
# tries 10,000 others.
settings.register_profile("always", deadline=None, derandomize=True)
settings.register_profile("thorough", deadline=None, max_examples=10_000)
settings.load_profile("always")


@pytest.fixture(scope="session")
def exported() -> Repository:
    """The repository whose newest release is tested; export first if there is none."""
    found = Repository(Path(os.environ.get("PERFUSION_MODEL_REPOSITORY", ROOT / "model_repository")).resolve())
    if not found.numbers():
        subprocess.run(["make", "export"], cwd=ROOT, check=True)
    return found


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """One server for the whole session."""
    with running_s3(tmp_path_factory.mktemp("s3") / "log") as server:
        yield server


@pytest.fixture
def s3(s3_server: S3) -> Iterator[S3]:
    """The same, found by what reads Amazon's usual variables."""
    with pytest.MonkeyPatch.context() as patch:  # of its own: a test may undo what it patched
        for name, value in s3_server.environment.items():
            patch.setenv(name, value)
        yield s3_server


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where tables or pictures lie: an empty folder, and an empty bucket."""
    if request.param == "folder":
        return str(tmp_path)
    store: S3 = request.getfixturevalue("s3")
    return store.new_bucket()


@pytest.fixture(scope="session")
def cluster(exported: Repository) -> Iterator[Cluster]:
    """Real Triton, real Kafka, the four services, with empty stores, on the newest release.

    It is served from a repository of the tests' own: whatever serves from the project's goes on undisturbed.
    """
    Cluster(Layout("test")).down()  # what an interrupted session left: found by its files, whatever its ports were
    layout = Layout("test", free_offset(), ROOT / "build" / "test" / "model_repository")
    running = Cluster(layout, say=print)
    shutil.rmtree(layout.home, ignore_errors=True)
    copy_of(exported, layout.model_repository, exported.numbers()[-1:])
    try:
        running.up()
        yield running
    finally:
        running.down()


@pytest.fixture(scope="session")
def clients(cluster: Cluster) -> Iterator[Clients]:
    with connect(cluster.layout) as connected:
        yield connected
