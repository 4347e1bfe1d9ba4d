"""The tools that the manifests are checked with: made once, then there."""

import subprocess
from collections.abc import Iterator
from functools import cache

import kubernetes_validate
import pytest

from tests.deploy.k8s.manifests import ROOT, Objects, build


@pytest.fixture(scope="session", autouse=True)
def tools() -> None:
    subprocess.run(["sh", "deploy/k8s/tools.sh"], cwd=ROOT, check=True)


@pytest.fixture(scope="session", autouse=True)
def schemas_are_read_once() -> Iterator[None]:
    """The library reads some megabytes for every object."""
    with pytest.MonkeyPatch.context() as patch:
        library = kubernetes_validate.utils
        patch.setattr(library, "schema_contents", cache(library.schema_contents))
        yield


@pytest.fixture
def whole(tools: None) -> Objects:
    """The whole platform, to be changed by a test."""
    return build("tensorrt")
