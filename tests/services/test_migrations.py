"""Every revision of every service, on both databases: up and down with rows inside, and in step with the tables.

A new revision is tested by being there. before_revisions/ holds the tables that were made before revisions were kept.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, LargeBinary, MetaData, Table, inspect, select, text
from sqlalchemy.types import JSON, BigInteger, Boolean, Float, Integer, String

from deploy.local.layout import ROOT
from services.migrations import SERVICES, main
from services.runtime.database import open_engine
from services.runtime.migrations import Schema, current, differences, downgrade, upgrade

BEFORE = Path(__file__).parent / "before_revisions"
Rows = dict[str, list[dict[str, Any]]]  # of each table


KNEW_BEFORE = sorted({path.name.partition(".")[0] for path in BEFORE.iterdir()})  # services that had tables then


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def schema(service: str) -> Schema:
    return SERVICES[service][0]


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    engine = open_engine(url, timeout_s=20)
    yield engine
    engine.dispose()


def reflected(engine: Engine, schema: Schema) -> dict[str, Table]:
    """The service's tables as the database has them, parents first."""
    metadata = MetaData()
    metadata.reflect(engine)
    return {table.name: table for table in metadata.sorted_tables if table.name != schema.version_table}


def fill(engine: Engine, schema: Schema) -> None:
    """Two rows in every table; columns of one name hold the same, so that foreign keys fit."""
    with engine.begin() as connection:
        for table in reflected(engine, schema).values():
            for n in (1, 2):
                values = {column.name: value_for(column.type, column.name, n) for column in table.columns}
                connection.execute(table.insert().values(values))


def value_for(kind: Any, name: str, n: int) -> Any:
    match kind:
        case Boolean():
            return n == 1
        case Integer() | BigInteger():
            return n
        case Float():
            return n / 3
        case JSON():
            return {"☂": [n, None]}
        case LargeBinary():
            return bytes([0, n, 255])
        case String():
            return f"{name}{n} ☂"[-(kind.length or 99) :]
    raise AssertionError(f"no value for {kind!r}")


def rows(connection: Connection, tables: dict[str, Table]) -> Rows:
    return {
        name: [dict(row) for row in connection.execute(select(table).order_by(*table.primary_key)).mappings()]
        for name, table in tables.items()
    }


def read(engine: Engine, schema: Schema) -> Rows:
    with engine.connect() as connection:
        return rows(connection, reflected(engine, schema))


def steps(schema: Schema) -> list[str]:
    """All revisions, the first one first."""
    return [revision.revision for revision in schema.script.walk_revisions()][::-1]


def make_tables_of_before(engine: Engine, service: str) -> None:
    script = (BEFORE / f"{service}.{engine.dialect.name}.sql").read_text()
    with engine.begin() as connection:
        for statement in script.split(";\n")[:-1]:
            connection.execute(text(statement))


def test_tables_and_revisions_agree(engine: Engine, schema: Schema) -> None:
    upgrade(engine, schema)
    assert differences(engine, schema) == []
    assert set(inspect(engine).get_table_names()) == {*schema.metadata.tables, schema.version_table}


def test_revisions_are_one_line_and_named_in_order(schema: Schema) -> None:
    names = sorted(path.name for path in schema.revisions.glob("r*.py"))
    assert [name[1:5] for name in names] == steps(schema)
    assert schema.script.get_heads() == [steps(schema)[-1]]


def test_rows_survive_every_step_up_and_down(engine: Engine, schema: Schema) -> None:
    """Rows of the first revision go up to the head and come back as they were; rows of the head go down and stay."""
    upgrade(engine, schema, to=schema.first)
    fill(engine, schema)
    written = read(engine, schema)
    for revision in steps(schema)[1:]:
        upgrade(engine, schema, to=revision)
        now = read(engine, schema)
        for table, before in written.items():
            for row, its in zip(now[table], before, strict=True):
                assert row.items() >= {name: value for name, value in its.items() if name in row}.items()
    for revision in steps(schema)[-2::-1]:
        downgrade(engine, schema, revision)
        assert current(engine, schema) == revision
    assert read(engine, schema) == written
    downgrade(engine, schema, "base")
    assert set(inspect(engine).get_table_names()) <= {schema.version_table}
    upgrade(engine, schema)
    fill(engine, schema)
    if len(steps(schema)) > 1:
        downgrade(engine, schema, schema.first)
    assert [len(of_table) for of_table in read(engine, schema).values()] == [2] * len(written)


@pytest.mark.parametrize("service", KNEW_BEFORE, indirect=True)
def test_a_database_of_before_revisions_is_recognised_without_loss(
    engine: Engine, service: str, schema: Schema
) -> None:
    make_tables_of_before(engine, service)
    fill(engine, schema)
    written = read(engine, schema)
    upgrade(engine, schema, to=schema.first)
    assert current(engine, schema) == schema.first and read(engine, schema) == written
    upgrade(engine, schema)
    assert differences(engine, schema) == []
    downgrade(engine, schema, schema.first)
    assert read(engine, schema) == written


def test_the_command_says_what_it_did(url: str, service: str, schema: Schema, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFUSION_DATABASE_URL", url)
    with pytest.raises(SystemExit, match=f"python -m services.migrations upgrade --service {service}"):
        main(["check", "--service", service])
    assert main(["current", "--service", service]) == f"{service}: no revision, newest {schema.head}"
    at_head = f"{service}: {schema.head}, newest {schema.head}"
    assert main(["upgrade", "--service", service]) == at_head
    assert main(["upgrade", "--service", service]) == at_head
    assert main(["check", "--service", service]) == at_head
    with pytest.raises(SystemExit, match="nowhere"):
        main(["downgrade", "--service", service, "--to", "nowhere"])
    with pytest.raises(SystemExit):
        main(["downgrade", "--service", service])
    assert main(["downgrade", "--service", service, "--to", "base"]) == f"{service}: no revision, newest {schema.head}"


def test_the_command_names_what_differs(url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFUSION_DATABASE_URL", url)
    main(["upgrade", "--service", "generation"])
    with engine.begin() as connection:
        connection.execute(text("DROP INDEX groups_by_user"))
    with pytest.raises(SystemExit, match="groups_by_user"):
        main(["check", "--service", "generation"])


def test_services_may_share_a_database(url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFUSION_DATABASE_URL", url)
    for service in SERVICES:
        main(["upgrade", "--service", service])
    for service in SERVICES:
        main(["check", "--service", service])
    main(["downgrade", "--service", "feedback", "--to", "base"])
    main(["check", "--service", "generation"])


STARTED = """
import sys
from services.generation.adapters.tables import SCHEMA
from services.runtime.database import open_engine
from services.runtime.migrations import upgrade
print("imported", flush=True)
input()  # until both are
upgrade(open_engine(sys.argv[1], timeout_s=60), SCHEMA)
"""


def test_processes_at_once_migrate_once(url: str, engine: Engine) -> None:
    """Each would fail at the other's tables if both made them."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT}/protos/gen"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    command = [sys.executable, "-c", STARTED, url]
    processes = [subprocess.Popen(command, env=environment, cwd=ROOT, text=True, **pipes) for _ in range(2)]
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "imported\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert process.returncode == 0, said
    schema, _ = SERVICES["generation"]
    assert current(engine, schema) == schema.head
