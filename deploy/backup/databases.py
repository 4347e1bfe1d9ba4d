"""A service's database as one file, and back: SQLite by its own backup, PostgreSQL by pg_dump and pg_restore.

Each copy is of one moment, while the service writes on. What a restore has to change in it, it changes before anybody
can read it.
"""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, insert, inspect, select, text, update
from sqlalchemy.engine import make_url

from contract.repository import sync
from deploy.backup.places import BackupError
from services.feedback.adapters import tables as feedback
from services.generation.adapters import tables as generation
from services.items.adapters import tables as items
from services.migrations import SERVICES
from services.runtime import migrations
from services.runtime.database import open_engine
from services.runtime.outbox import OutboxTables

# Counts of events go back with the database, and the lake may know later ones: new ones begin beyond all of them.
LIFT = 1_000_000
OUTBOXES: dict[str, OutboxTables] = {
    "generation": generation.OUTBOX,
    "feedback": feedback.OUTBOX,
    "items": items.OUTBOX,
}
TIMEOUT_S = 60.0


def file_of(service: str, url: str) -> str:
    """What the copy is called."""
    return f"{service}.sqlite" if _sqlite(url) else f"{service}.dump"


def has_tables(service: str, url: str) -> bool:
    """Whether the service ever had its tables there."""
    if (file := _sqlite(url)) is not None and not file.exists():
        return False
    engine = open_engine(url, TIMEOUT_S)
    try:
        return migrations.current(engine, SERVICES[service][0]) is not None
    finally:
        engine.dispose()


def take(service: str, url: str, target: Path) -> dict[str, Any]:
    """Copies a database into a file; returns its revision.

    Raises:
        BackupError: it has no tables of the service, or cannot be read.
    """
    if not has_tables(service, url):
        raise BackupError(f"the database of {service} has no tables: is it the platform's?")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    engine = open_engine(url, TIMEOUT_S)
    try:
        revision = migrations.current(engine, SERVICES[service][0])
        if (file := _sqlite(url)) is None:
            with engine.connect() as connection:
                schema = connection.execute(text("SELECT current_schema()")).scalar()
            tables = [f"--table={schema}.{name}" for name in _tables(service)]
            _run("pg_dump", url, "--format=custom", "--no-owner", "--no-privileges", f"--file={target}", *tables)
        else:
            reading = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
            with closing(reading) as source, closing(sqlite3.connect(target)) as copy:
                source.backup(copy)
                if (said := copy.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
                    raise BackupError(f"{file} is damaged: {said}")
    finally:
        engine.dispose()
    sync(target)
    return {"revision": revision, "kind": "sqlite" if file else "postgresql"}


def restore(service: str, source: Path, url: str, mark: str, merchants: Iterable[str] = ()) -> None:
    """Makes a database of a copy, with its counts lifted; one that this back-up was restored into already stays.

    Args:
        mark: the back-up's id.
        merchants: who may have events that the copy does not count, since their first came later.

    Raises:
        BackupError: there are tables of the service already, or it is a copy of the other kind of database.
    """
    file = _sqlite(url)
    if source.suffix != (".sqlite" if file else ".dump"):
        raise BackupError(
            f"{source} is not restored into {make_url(url).get_backend_name()}: it is of another database"
        )
    if file is not None:
        number = int(mark[:7], 16)
        if file.exists():
            with closing(sqlite3.connect(file)) as there:
                if there.execute("PRAGMA user_version").fetchone()[0] == number:
                    return
            raise BackupError(f"{file} is there already; restore into an empty platform")
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f".{file.name}.restored")
        for each in file.parent.glob(f"{partial.name}*"):
            each.unlink()
        shutil.copyfile(source, partial)
        engine = open_engine(f"sqlite:///{partial}", TIMEOUT_S)
        _lift(engine, service, merchants)
        engine.dispose()
        with closing(sqlite3.connect(partial)) as copy:
            copy.execute(f"PRAGMA user_version = {number}")
            copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            copy.commit()
        sync(partial)
        os.replace(partial, file)
        return
    engine = open_engine(url, TIMEOUT_S)
    version = SERVICES[service][0].version_table
    try:
        if inspect(engine).has_table(version):
            if (inspect(engine).get_table_comment(version)["text"] or "") == mark:
                return
            raise BackupError(f"the database of {service} has tables already; restore into an empty platform")
        _run("pg_restore", url, "--no-owner", "--no-privileges", "--single-transaction", "--exit-on-error", str(source))
        _lift(engine, service, merchants, f"COMMENT ON TABLE {version} IS '{mark}'")
    finally:
        engine.dispose()


def _lift(engine: Engine, service: str, merchants: Iterable[str], last: str = "") -> None:
    """In one transaction, with a last statement."""
    with engine.begin() as connection:
        if (outbox := OUTBOXES.get(service)) is not None:
            keys = outbox.keys
            connection.execute(update(keys).values(last_sequence=keys.c.last_sequence + LIFT))
            known = set(connection.execute(select(keys.c.key)).scalars())
            new = [{"key": key, "last_sequence": LIFT, "holder": "", "beats": 0} for key in {*merchants} - known]
            if new:
                connection.execute(insert(keys), new)
        if last:
            connection.exec_driver_sql(last)


def merchants_of(url: str) -> set[str]:
    """Everybody with a group in generation's database."""
    engine = open_engine(url, TIMEOUT_S)
    try:
        with engine.connect() as connection:
            return set(connection.execute(select(generation.groups.c.user_id).distinct()).scalars())
    finally:
        engine.dispose()


def pictures_of(url: str) -> set[str]:
    """The URIs of all candidates in generation's database."""
    engine = open_engine(url, TIMEOUT_S)
    try:
        with engine.connect() as connection:
            return set(connection.execute(select(generation.candidates.c.uri).distinct()).scalars())
    finally:
        engine.dispose()


def _tables(service: str) -> list[str]:
    schema = SERVICES[service][0]
    return [*schema.metadata.tables, schema.version_table]


def _sqlite(url: str) -> Path | None:
    parsed = make_url(url)
    return Path(parsed.database) if parsed.get_backend_name() == "sqlite" and parsed.database else None


def _run(program: str, url: str, *arguments: str) -> None:
    """A program of PostgreSQL's; the password goes by the environment, which `ps` does not show."""
    parsed = make_url(url)
    shown = parsed.set(drivername="postgresql", password=None).render_as_string()
    environment = os.environ | ({"PGPASSWORD": str(parsed.password)} if parsed.password else {})
    try:
        done = subprocess.run(
            [program, f"--dbname={shown}", *arguments], env=environment, capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise BackupError(f"{program} is missing; remedy: apt-get install postgresql-client") from error
    if done.returncode:
        raise BackupError(f"{program}: {done.stderr.strip()}")
