"""On a real PostgreSQL: each role does what its part needs, and is refused everything else."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from services import disclosure, erasure, migrations, roles
from services.migrations import SERVICES
from services.roles import OWNER, RIGHTS, schema_of
from services.runtime.database import Database, open_engine
from services.runtime.migrations import upgrade
from tests.services.postgres import Postgres, PostgresDatabase
from tests.services.test_migrations import read, reflected, value_for

GONE = "store-1 ☂"


@pytest.fixture(scope="module")
def database(postgres: Postgres) -> PostgresDatabase:
    """With every service's schema, made by its owner after its roles."""
    made = postgres.new_server_database()
    for service, (schema, _) in SERVICES.items():
        for engine in engines(made.url()):
            roles.prepare(engine, service, {})
        for engine in engines(made.url(schema_of(service) + OWNER)):
            upgrade(engine, schema)
    return made


def engines(*urls: str) -> Iterator[Engine]:
    for url in urls:
        engine = open_engine(url, timeout_s=20)
        yield engine
        engine.dispose()


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fill(database: PostgresDatabase, service: str) -> None:
    """A row of either merchant in every table, by the service's own role."""
    schema = SERVICES[service][0]
    for engine in engines(database.url(schema_of(service))):
        with engine.begin() as connection:
            for table in reversed(tables := list(reflected(engine, schema).values())):
                connection.execute(table.delete())
            for table in tables:
                for n in (1, 2):
                    values = {c.name: value_for(c.type, c.name, n) for c in table.columns}
                    values |= {c.name: f"store-{n} ☂" for c in table.columns if c.name in ("user_id", "key")}
                    if table.name == "presales":
                        values["state"] = "shipped"
                    if table.name == "orders":
                        values["state"] = "refunded"
                    connection.execute(table.insert().values(values))


def test_the_service_works(service: str, database: PostgresDatabase) -> None:
    """Its health writes, and rows of every table come, change and go; tables without an order count by themselves."""
    schema = SERVICES[service][0]

    async def check() -> None:
        own = Database(database.url(schema_of(service)), schema, timeout_s=20, migrate=False)
        await own.check()
        await own.close()

    asyncio.run(check())
    fill(database, service)
    for engine in engines(database.url(schema_of(service))):
        with engine.begin() as connection:
            for table in reflected(engine, schema).values():
                values = {c.name: c for c in table.columns}
                assert connection.execute(table.update().values(values)).rowcount == 2
        assert all(len(rows) == 2 for rows in read(engine, schema).values())


def test_the_books_are_numbered_by_the_database(database: PostgresDatabase) -> None:
    fill(database, "items")
    for engine in engines(database.url(schema_of("items"))):
        ledger = reflected(engine, SERVICES["items"][0])["ledger"]
        values = {c.name: value_for(c.type, c.name, 1) for c in ledger.columns if c.name != "number"}
        with engine.begin() as connection:
            connection.execute(ledger.delete())
            assert connection.execute(ledger.insert().values(values).returning(ledger.c.number)).scalar() is not None


def refused(connection: Connection, statement: str) -> bool:
    """Whether the database says that this may not be."""
    with pytest.raises(DBAPIError) as refusal, connection.begin_nested():
        connection.execute(text(statement))
    state = getattr(refusal.value.orig, "sqlstate", "")
    assert state == "42501", f"{statement}: {refusal.value.orig}"  # insufficient_privilege
    return True


@pytest.mark.parametrize("ending", RIGHTS)
def test_a_role_changes_no_table_and_reaches_no_other_service(
    ending: str, service: str, database: PostgresDatabase
) -> None:
    schema, own = SERVICES[service][0], schema_of(service)
    for engine in engines(database.url(own + ending)):
        with engine.connect() as connection, connection.begin():
            for table in schema.metadata.tables:
                for statement in (f"DROP TABLE {table}", f"ALTER TABLE {table} ADD x int", f"TRUNCATE {table}"):
                    assert refused(connection, statement)
            assert refused(connection, f"CREATE TABLE {own}.new (x int)")
            assert refused(connection, "CREATE TABLE public.new (x int)")
            assert refused(connection, "CREATE ROLE somebody")
            assert refused(connection, f"SET ROLE {own}{OWNER}")
            assert refused(connection, f"ALTER ROLE {own}{OWNER} PASSWORD 'x'")
            assert refused(connection, "COPY (SELECT 1) TO '/tmp/perfusion'")
            for other in SERVICES.keys() - {service}:
                for table in SERVICES[other][0].metadata.tables:
                    assert refused(connection, f"SELECT 1 FROM {schema_of(other)}.{table}")
            for table in schema.metadata.tables if ending else ():
                assert refused(connection, f"INSERT INTO {table} DEFAULT VALUES")
                if ending == "_reader":
                    assert refused(connection, f"DELETE FROM {table}")
                    assert refused(
                        connection, f"UPDATE {table} SET {next(iter(schema.metadata.tables[table].c)).name} = NULL"
                    )


def test_an_owner_reaches_no_other_service(service: str, database: PostgresDatabase) -> None:
    for engine in engines(database.url(schema_of(service) + OWNER)):
        with engine.connect() as connection, connection.begin():
            for other in SERVICES.keys() - {service}:
                for table in SERVICES[other][0].metadata.tables:
                    assert refused(connection, f"SELECT 1 FROM {schema_of(other)}.{table}")
                assert refused(connection, f"CREATE TABLE {schema_of(other)}.new (x int)")


def test_each_command_works_by_its_role(
    service: str, database: PostgresDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERFUSION_OBJECT_STORE_URL", f"file://{tmp_path}/objects")
    fill(database, service)
    own = schema_of(service)
    monkeypatch.setenv("PERFUSION_DATABASE_URL", database.url(own + "_reader"))
    disclosure.main(["--service", service, "--user", GONE, "--out", str(tmp_path / "out")])
    [written] = (tmp_path / "out").glob("*.json")
    assert any(json.loads(written.read_text())["tables"].values())
    monkeypatch.setenv("PERFUSION_DATABASE_URL", database.url(own + "_erasure"))
    done = json.loads(erasure.main(["--service", service, "--user", GONE]))
    assert sum(done["rows"].values()) > 0
    monkeypatch.setenv("PERFUSION_DATABASE_URL", database.url(own + OWNER))
    assert migrations.main(["check", "--service", service])
    migrations.main(["downgrade", "--service", service, "--to", "base"])
    migrations.main(["upgrade", "--service", service])
    fill(database, service)  # what a migration makes anew is the service's again


def test_tables_of_before_move_with_their_rows(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    made = postgres.new_server_database()
    schema = SERVICES["items"][0]
    for engine in engines(made.url()):
        upgrade(engine, schema)
        with engine.begin() as connection:
            for table in reflected(engine, schema).values():
                connection.execute(table.insert().values({c.name: value_for(c.type, c.name, 1) for c in table.columns}))
        before = read(engine, schema)
    monkeypatch.setenv("PERFUSION_DATABASE_URL", made.url())
    for _ in range(2):  # it may be repeated
        assert roles.main(["--service", "items"]).startswith("items: schema perfusion_items")
    for engine in engines(made.url(schema_of("items"))):
        assert read(engine, schema) == before
    monkeypatch.setenv("PERFUSION_DATABASE_URL", made.url(schema_of("items") + OWNER))
    assert migrations.main(["check", "--service", "items"])


def test_a_password_is_stored_as_its_verifier(
    postgres: Postgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = postgres.new_server_database()
    (tmp_path / "perfusion_feedback").write_text("secret ☂\n")
    monkeypatch.setenv("PERFUSION_DATABASE_URL", made.url())
    said = roles.main(["--service", "feedback", "--passwords", str(tmp_path)])
    assert "secret" not in said
    for engine in engines(made.url()):
        with engine.connect() as connection:
            found = connection.execute(
                text("SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE '%feedback%'")
            )
            stored = {row.rolname: row.rolpassword for row in found}
    assert stored["perfusion_feedback"].startswith("SCRAM-SHA-256$")
    assert {role for role, verifier in stored.items() if verifier} == {"perfusion_feedback"}


def test_who_may_make_no_roles_is_told(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PERFUSION_DATABASE_URL", database.url(schema_of("feedback")))
    with pytest.raises(SystemExit, match="feedback: .*permission denied|must be|denied"):
        roles.main(["--service", "feedback"])
    monkeypatch.setenv("PERFUSION_DATABASE_URL", f"sqlite:///{tmp_path}/x.sqlite")
    with pytest.raises(SystemExit, match="must name a PostgreSQL"):
        roles.main(["--service", "feedback"])
