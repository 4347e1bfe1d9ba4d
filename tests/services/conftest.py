"""What the tests of several services share: a real PostgreSQL."""

from collections.abc import Iterator

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
