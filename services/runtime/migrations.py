"""Schemas of databases and the revisions that lead to them, by Alembic: upgrade, downgrade, and what a database lacks.

It knows revisions and locks. Which tables a service has, and its revisions, stand in the service's own folder. All
functions block; each works in one transaction, so a migration happens whole or not at all.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, MetaData, create_engine, inspect, text

from services.runtime.errors import Unavailable

_log = logging.getLogger(__name__)
logging.getLogger("alembic").setLevel(logging.WARNING)  # it tells of every look at a revision

# Alembic's `op`, which revisions call, is one for the whole process; two databases may be opened at once.
_one_at_a_time = threading.Lock()
_Steps = Callable[[Any, Any], Iterable[RevisionStep]]


@dataclass(frozen=True)
class Schema:
    """A service's tables, and the folder of the revisions that make them."""

    service: str  # as `python -m services.migrations --service` names it
    metadata: MetaData
    revisions: Path

    @property
    def version_table(self) -> str:
        """The table that keeps the database's revision; services may share a database."""
        return f"alembic_version_{self.service}"

    @property
    def script(self) -> ScriptDirectory:
        return ScriptDirectory(self.revisions, version_locations=[self.revisions])

    @property
    def head(self) -> str:
        """The revision that this version of the service works with."""
        head = self.script.get_current_head()
        assert head is not None, f"{self.revisions} holds no revision"
        return head

    @property
    def first(self) -> str:
        """The revision of databases that were made before revisions were kept."""
        first = self.script.get_base()
        assert first is not None, f"{self.revisions} holds no revision"
        return first


def current(engine: Engine, schema: Schema) -> str | None:
    """The database's revision; None when it has none yet."""
    with engine.connect() as connection:
        return _revision(connection, schema)


def upgrade(engine: Engine, schema: Schema, to: str = "") -> None:
    """Brings a database to a revision, by default the head: an empty one, an earlier one, or one of before revisions.

    Raises:
        Unavailable: the database is newer than this code, or holds tables that no revision made; it stays as it was.
    """
    script, to = schema.script, to or schema.head
    with engine.connect() as connection:  # in most starts there is nothing to do, and nothing to lock
        if _revision(connection, schema) == to:
            return
    with _writing(engine) as connection:
        before = _revision(connection, schema)
        if before is None and _is_of_first_revision(connection, schema):
            before = schema.first
            _context(connection, schema).stamp(script, before)
        _refuse_unknown(before, schema)
        _run(connection, schema, lambda now, _: script._upgrade_revs(to, now))
    if before != to:  # else another replica did it
        _log.info("migrated the database", extra={"revision_before": before or "none", "revision": to})


def downgrade(engine: Engine, schema: Schema, revision: str) -> None:
    """Takes a database back to an earlier revision, or to "base", which drops the tables."""
    script = schema.script
    with _writing(engine) as connection:
        _refuse_unknown(_revision(connection, schema), schema)
        _run(connection, schema, lambda now, _: script._downgrade_revs(revision, now))


def require_head(engine: Engine, schema: Schema) -> None:
    """Returns when the database is at the head; Unavailable otherwise, with the command that brings it there."""
    with engine.connect() as connection:
        revision = _revision(connection, schema)
    _refuse_unknown(revision, schema)
    if revision != schema.head:
        raise Unavailable(
            "database",
            f"is at revision {revision or 'none'} of {schema.service}'s tables, and {schema.head} is needed: run "
            f"`python -m services.migrations upgrade --service {schema.service}`",
        )


def differences(engine: Engine, schema: Schema) -> list[Any]:
    """What Alembic would change to bring the database to the models; empty when they agree.

    Tables of others in the same database do not count.
    """
    with engine.connect() as connection:
        context = _context(connection, schema, include_name=_only(schema))
        return list(compare_metadata(context, schema.metadata))


@contextmanager
def _writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that no other migration runs beside; it has as much time as it needs once it has its lock."""
    with _one_at_a_time, engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            with connection.begin():
                connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('perfusion.schema'))"))
                connection.execute(text("SET LOCAL statement_timeout = 0"))
                yield connection
            return
        # SQLite changes a column by making its table anew, which foreign keys would forbid. They are tested at the end.
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.rollback()
        with connection.begin():
            # By itself, SQLite's driver would begin a transaction at the first write, after looking what is there.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").all():
                raise RuntimeError(f"the migration left {len(broken)} rows without the rows they refer to")


def _context(connection: Connection, schema: Schema, **options: Any) -> MigrationContext:
    return MigrationContext.configure(
        connection,
        opts={
            "version_table": schema.version_table,
            "target_metadata": schema.metadata,
            **options,
        },
    )


def _run(connection: Connection, schema: Schema, steps: _Steps) -> None:
    context = _context(connection, schema, fn=steps, script=schema.script)
    with Operations.context(context):
        context.run_migrations()


def _revision(connection: Connection, schema: Schema) -> str | None:
    return _context(connection, schema).get_current_revision()


def _refuse_unknown(revision: str | None, schema: Schema) -> None:
    if revision is not None and revision not in {known.revision for known in schema.script.walk_revisions()}:
        raise Unavailable(
            "database",
            f"is at revision {revision} of {schema.service}'s tables, which this version of the service does not know: "
            f"run the newer version, or take the database back with the newer version's "
            f"`python -m services.migrations downgrade --service {schema.service} --to {schema.head}`",
        )


def _is_of_first_revision(connection: Connection, schema: Schema) -> bool:
    """Whether a database without revision has the first revision's tables: True, or none of them: False.

    Raises:
        Unavailable: it has some of them, or others of the same names.
    """
    expected = _first_columns(schema)
    found = _columns(connection, expected)
    if not found:
        return False
    if wrong := sorted(name for name in expected if found.get(name) != expected[name]):
        raise Unavailable(
            "database",
            f"has tables that no revision of {schema.service} made ({', '.join(wrong)}): "
            "restore a copy, or give another PERFUSION_DATABASE_URL",
        )
    return True


_Columns = dict[str, set[tuple[str, bool]]]  # of each table: names, and whether NULL is allowed


def _first_columns(schema: Schema) -> _Columns:
    """What the first revision makes, learnt by making it in a database of its own."""
    engine, script = create_engine("sqlite://"), schema.script
    try:
        with engine.begin() as connection:
            _run(connection, schema, lambda now, _: script._upgrade_revs(schema.first, now))
            return _columns(connection, set(inspect(connection).get_table_names()) - {schema.version_table})
    finally:
        engine.dispose()


def _columns(connection: Connection, tables: Iterable[str]) -> _Columns:
    inspector = inspect(connection)
    there = set(inspector.get_table_names())
    return {
        table: {(column["name"], bool(column["nullable"])) for column in inspector.get_columns(table)}
        for table in tables
        if table in there
    }


def _only(schema: Schema) -> Callable[[str | None, str, Any], bool]:
    return lambda name, kind, _: kind != "table" or name in schema.metadata.tables
