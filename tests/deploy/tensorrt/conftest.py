"""The newest exported release: real graphs, and what is said of them."""

from pathlib import Path

import pytest

from contract.release import Release, read_release
from contract.repository import Repository

ROOT = Path(__file__).parents[3]
MODELS = sorted(path.parent.name for path in (ROOT / "model_repository").glob("*/config.pbtxt"))


@pytest.fixture(scope="session")
def repository() -> Repository:
    return Repository(ROOT / "model_repository")


@pytest.fixture(scope="session")
def number(repository: Repository) -> int:
    assert repository.numbers(), "make export"
    return max(repository.numbers())


@pytest.fixture(scope="session")
def release(repository: Repository, number: int) -> Release:
    return read_release(repository.release_dir(number))
