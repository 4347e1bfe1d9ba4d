"""What the tests of several parts share: a real cluster of their own, beside any that a person runs.

Knows how to bring the cluster up once a session and down at its end; the tests of one part need none of it.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.clients import Clients, connect
from deploy.local.cluster import Cluster
from deploy.local.layout import ROOT, Layout
from tests.ports import free_offset


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Real Triton, real Kafka, the four services, with empty stores; export first if nothing is exported."""
    repository = os.environ.get("PERFUSION_MODEL_REPOSITORY", ROOT / "model_repository")
    Cluster(Layout("test")).down()  # what an interrupted session left: found by its files, whatever its ports were
    layout = Layout("test", free_offset(), Path(repository).resolve())
    if not (layout.model_repository / "releases" / "current").exists():
        subprocess.run(["make", "export"], cwd=ROOT, check=True)
    running = Cluster(layout, say=print)
    shutil.rmtree(layout.home, ignore_errors=True)
    try:
        running.up()
        yield running
    finally:
        running.down()


@pytest.fixture(scope="session")
def clients(cluster: Cluster) -> Iterator[Clients]:
    with connect(cluster.layout) as connected:
        yield connected
