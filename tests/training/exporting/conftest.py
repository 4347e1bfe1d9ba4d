"""The release that `make export` made, for all tests of this folder: its seven real exports are not repeated here."""

import shutil
from pathlib import Path

import pytest

from contract.repository import Repository
from tests.repositories import copy_of, stage
from training.exporting.staging import export_family
from training.models.family import TINY, FamilyPaths


@pytest.fixture(scope="session")
def published() -> FamilyPaths:
    """The family of this repository, as `make export` takes it."""
    return FamilyPaths.under(TINY)


@pytest.fixture(scope="session")
def exported(published: FamilyPaths, exported: Repository, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """All seven models of the published family, as release 1."""
    root = tmp_path_factory.mktemp("exported")
    there = copy_of(exported, root / "there", exported.numbers())
    number = export_family(published, there, processes=2)  # of which all is there, unless somebody changed it
    first = copy_of(there, root / "first", [])
    stage(there, number, first, 1)
    return first


@pytest.fixture
def copied(exported: Repository, tmp_path: Path) -> Repository:
    """The same, for a test to add to."""
    shutil.copytree(exported.root, tmp_path / "repository")
    return Repository(tmp_path / "repository")
