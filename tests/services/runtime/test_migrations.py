"""Migrations happen whole or not at all, and a database that is not ours to migrate is left as it is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Column, Engine, ForeignKey, Integer, MetaData, String, Table, inspect, text
from sqlalchemy.exc import IntegrityError

from services.runtime.database import open_engine
from services.runtime.errors import Unavailable
from services.runtime.migrations import Schema, current, differences, downgrade, require_head, upgrade
from tests.services.postgres import Postgres
from tests.services.runtime.revisions import add_revision, schema_of

METADATA = MetaData()
Table("shops", METADATA, Column("id", Integer, primary_key=True), Column("name", String(10), nullable=False))
Table("hats", METADATA, Column("id", Integer, primary_key=True), Column("shop_id", ForeignKey("shops.id")))
FIRST = """
key = lambda: sa.Column("id", sa.Integer, primary_key=True)
op.create_table("shops", key(), sa.Column("name", sa.String(10), nullable=False))
op.create_table("hats", key(), sa.Column("shop_id", sa.Integer, sa.ForeignKey("shops.id")))
"""
LAST = """
op.drop_table("hats")
op.drop_table("shops")
"""


@pytest.fixture
def schema(tmp_path: Path) -> Schema:
    add_revision(tmp_path / "revisions", 1, FIRST, LAST)
    return schema_of(METADATA, tmp_path / "revisions")


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty database, of each kind."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/test.sqlite"
    else:
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.new_database()
    engine = open_engine(url, timeout_s=5)
    yield engine
    engine.dispose()


def run(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def all_of(engine: Engine, table: str) -> list[tuple[object, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(f"SELECT * FROM {table} ORDER BY 1"))]


def fill(engine: Engine) -> None:
    run(engine, "INSERT INTO shops VALUES (1, 'ada'), (2, 'bo')", "INSERT INTO hats VALUES (7, 1), (8, 2), (9, NULL)")


def test_an_empty_database_gets_the_tables_and_is_at_the_head(engine: Engine, schema: Schema) -> None:
    assert current(engine, schema) is None
    upgrade(engine, schema)
    require_head(engine, schema)
    assert current(engine, schema) == "0001"
    assert differences(engine, schema) == []


def test_a_migration_that_fails_leaves_everything_and_can_be_run_again(engine: Engine, schema: Schema) -> None:
    upgrade(engine, schema)
    fill(engine)
    add_revision(schema.revisions, 2, "op.add_column('shops', sa.Column('city', sa.String(10)))")
    begun = "op.create_table('belts', sa.Column('id', sa.Integer))\nop.execute(\"UPDATE shops SET name = 'x'\")\n"
    add_revision(schema.revisions, 3, begun + "raise KeyError('half')")
    with pytest.raises(KeyError, match="half"):
        upgrade(engine, schema)
    assert current(engine, schema) == "0001"
    assert all_of(engine, "shops") == [(1, "ada"), (2, "bo")]
    assert "belts" not in inspect(engine).get_table_names()
    add_revision(schema.revisions, 3, begun)
    upgrade(engine, schema)
    assert current(engine, schema) == "0003"
    assert all_of(engine, "shops") == [(1, "x", None), (2, "x", None)]


def test_a_table_that_others_refer_to_can_be_made_anew(engine: Engine, schema: Schema) -> None:
    """SQLite changes a column by copying the table, dropping it and renaming the copy."""
    upgrade(engine, schema)
    fill(engine)
    change = "with op.batch_alter_table('shops') as batch:\n    batch.alter_column('name', type_={}, nullable={})"
    add_revision(schema.revisions, 2, change.format("sa.Text", True), change.format("sa.String(10)", False))
    upgrade(engine, schema)
    run(engine, "INSERT INTO shops VALUES (3, NULL)", "DELETE FROM shops WHERE id = 3")
    downgrade(engine, schema, "0001")
    assert all_of(engine, "shops") == [(1, "ada"), (2, "bo")]
    assert all_of(engine, "hats") == [(7, 1), (8, 2), (9, None)]
    assert differences(engine, schema) == []
    with pytest.raises(IntegrityError):
        run(engine, "INSERT INTO hats VALUES (10, 99)")


def test_a_migration_that_loses_rows_which_others_refer_to_is_undone(engine: Engine, schema: Schema) -> None:
    upgrade(engine, schema)
    fill(engine)
    add_revision(schema.revisions, 2, "op.execute('DELETE FROM shops')")
    with pytest.raises((IntegrityError, RuntimeError)):
        upgrade(engine, schema)
    assert current(engine, schema) == "0001"
    assert all_of(engine, "shops") == [(1, "ada"), (2, "bo")]


def test_an_older_database_is_refused_with_the_command(engine: Engine, schema: Schema) -> None:
    with pytest.raises(Unavailable, match="at revision none .* 0001 .*services.migrations upgrade --service test"):
        require_head(engine, schema)
    upgrade(engine, schema)
    add_revision(schema.revisions, 2, "pass")
    with pytest.raises(Unavailable, match="at revision 0001 .* 0002 .*services.migrations upgrade --service test"):
        require_head(engine, schema)


def test_a_newer_database_is_refused_and_left(engine: Engine, schema: Schema) -> None:
    add_revision(schema.revisions, 2, "pass")
    upgrade(engine, schema)
    fill(engine)
    (schema.revisions / "r0002_test.py").unlink()  # the code of before
    for attempt in (upgrade, require_head):
        with pytest.raises(Unavailable, match="revision 0002 .*does not know.* downgrade --service test --to 0001"):
            attempt(engine, schema)
    with pytest.raises(Unavailable, match="does not know"):
        downgrade(engine, schema, "base")
    assert current(engine, schema) == "0002"
    assert all_of(engine, "shops") == [(1, "ada"), (2, "bo")]


@pytest.mark.parametrize(
    "before",
    [
        ("CREATE TABLE shops (id INTEGER PRIMARY KEY, name VARCHAR(10) NOT NULL)",),
        (
            "CREATE TABLE shops (id INTEGER PRIMARY KEY, name VARCHAR(10) NOT NULL, city VARCHAR(10))",
            "CREATE TABLE hats (id INTEGER PRIMARY KEY, shop_id INTEGER REFERENCES shops (id))",
        ),
        (
            "CREATE TABLE shops (id INTEGER PRIMARY KEY, name VARCHAR(10))",
            "CREATE TABLE hats (id INTEGER PRIMARY KEY, shop_id INTEGER REFERENCES shops (id))",
        ),
    ],
    ids=["a table is missing", "a column more", "a column allows NULL"],
)
def test_tables_that_no_revision_made_are_refused_and_left(
    engine: Engine, schema: Schema, before: tuple[str, ...]
) -> None:
    run(engine, *before)
    with pytest.raises(Unavailable, match="no revision of test made"):
        upgrade(engine, schema)
    assert len(inspect(engine).get_table_names()) == len(before)
