"""What the tests of several services share: databases, of both kinds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.services.postgres import Postgres, programs, running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One server for the whole session; skips where PostgreSQL is not installed."""
    folder = programs()
    if folder is None:
        pytest.skip("PostgreSQL's programs are not installed (Debian: apt install postgresql)")
    with running_postgres(folder) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/service.sqlite"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()
