"""One real export of the smallest family, for all tests of this folder."""

import shutil
from pathlib import Path

import pytest

from contract.repository import Repository
from training.exporting.family_contracts import write_contracts
from training.exporting.staging import export_family
from training.models.family import FamilyPaths

COMMITTED = Path("model_repository").absolute()


@pytest.fixture(scope="session")
def exported(family: FamilyPaths, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """All seven models of the smallest family."""
    root = tmp_path_factory.mktemp("repository")
    write_contracts(family, COMMITTED, root)
    assert export_family(family, Repository(root), processes=2) == 1
    return Repository(root)


@pytest.fixture
def copied(exported: Repository, tmp_path: Path) -> Repository:
    """The same, for a test to add to."""
    shutil.copytree(exported.root, tmp_path / "repository")
    return Repository(tmp_path / "repository")
