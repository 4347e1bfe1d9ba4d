"""A repository of four small releases and a Triton that is a table in memory."""

from pathlib import Path

import pytest

from contract.repository import Repository
from deploy.releases import tritons
from deploy.releases.controller import Controller
from tests.deploy.releases.parts import Table, write_repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """Four releases, 1 live."""
    return write_repository(tmp_path)


@pytest.fixture
def triton() -> Table:
    return Table()


@pytest.fixture
def controller(repository: Repository, triton: Table, monkeypatch: pytest.MonkeyPatch) -> Controller:
    monkeypatch.setattr("contract.repository.LOCK_WAIT_S", 0.1)
    monkeypatch.setattr(tritons, "QUIET_S", 0.0)
    monkeypatch.setattr(tritons, "UNLOADED_WITHIN_S", 0.2)
    monkeypatch.setattr(tritons, "POLL_S", 0.01)
    return Controller(repository, [triton], lambda line: None)
