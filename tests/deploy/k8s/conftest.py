"""The tools that the manifests are checked with: made once, then there."""

import subprocess

import pytest

from tests.deploy.k8s.manifests import ROOT, Objects, build


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    subprocess.run(["sh", "deploy/k8s/tools.sh"], cwd=ROOT, check=True)


@pytest.fixture
def gpu(tools: None) -> Objects:
    """The whole platform, to be changed by a test."""
    return build("gpu")
