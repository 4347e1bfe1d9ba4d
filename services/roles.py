"""Gives a service its own schema in PostgreSQL, and one role for each way to use it.

python -m services.roles --service generation [--passwords FOLDER]

PERFUSION_DATABASE_URL is that of an administrator, who may make roles and schemas in that database. The service's
tables lie in the schema perfusion_SERVICE, which each of its roles finds by itself:

  perfusion_SERVICE_owner     makes and changes tables: `python -m services.migrations`
  perfusion_SERVICE           reads and writes rows: the service, with PERFUSION_DATABASE_MIGRATE=false
  perfusion_SERVICE_erasure   reads, changes and deletes rows: `python -m services.erasure`
  perfusion_SERVICE_reader    reads rows: `python -m services.disclosure`, backups

None of them reaches another service's schema. FOLDER has a file for each role that is to have a password, by the
role's name; a role without one logs in by whatever else pg_hba.conf lets it. Tables that the service has in the schema
`public` move into its own, so stop it first. The command may be repeated, and changes passwords that way, too.
"""

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from services.migrations import SERVICES
from services.runtime.database import open_engine
from services.runtime.errors import Unavailable
from services.runtime.migrations import Schema
from services.runtime.settings import load

RIGHTS = {  # a role's ending → on each table, on each sequence
    "": ("SELECT, INSERT, UPDATE, DELETE", "USAGE, SELECT"),
    "_erasure": ("SELECT, UPDATE, DELETE", ""),
    "_reader": ("SELECT", "SELECT"),
}
OWNER = "_owner"


def schema_of(service: str) -> str:
    """Where a service's tables lie; the service's own role has the same name."""
    return f"perfusion_{service}"


def roles_of(service: str) -> tuple[str, ...]:
    """The owner, and those who use the tables."""
    return tuple(schema_of(service) + ending for ending in (OWNER, *RIGHTS))


def prepare(engine: Engine, service: str, passwords: Mapping[str, str]) -> None:
    """Makes what is missing, in one transaction.

    Args:
        engine: an administrator's, of the database that is to hold the tables.
        passwords: of those roles that are to have one.

    Raises:
        Unavailable: it is not PostgreSQL.
    """
    if engine.dialect.name != "postgresql":
        raise Unavailable("database", "has no roles: PERFUSION_DATABASE_URL must name a PostgreSQL")
    with engine.begin() as connection:
        for role in roles_of(service):
            if not connection.execute(text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": role}).first():
                connection.exec_driver_sql(f"CREATE ROLE {role} LOGIN")
            connection.exec_driver_sql(f"ALTER ROLE {role} SET search_path = {schema_of(service)}")
            if role in passwords:
                _set_password(connection, role, passwords[role])
        for statement in _statements(connection, service, SERVICES[service][0]):
            connection.exec_driver_sql(statement)


def _set_password(connection: Connection, role: str, password: str) -> None:
    """By its SCRAM verifier, so that no log of the server's has the password."""
    driver = connection.connection.driver_connection
    assert driver is not None
    verifier = driver.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256").decode()
    connection.exec_driver_sql(f"ALTER ROLE {role} PASSWORD '{verifier}'")


def _statements(connection: Connection, service: str, schema: Schema) -> Iterator[str]:
    own = schema_of(service)
    owner = own + OWNER
    yield f"GRANT {owner} TO CURRENT_USER"  # who is no superuser gives things to those alone that it is a member of
    yield f"CREATE SCHEMA IF NOT EXISTS {own} AUTHORIZATION {owner}"
    yield f"REVOKE ALL ON SCHEMA {own} FROM PUBLIC"
    for table in (*schema.metadata.tables, schema.version_table):
        if connection.execute(text("SELECT to_regclass(:name)"), {"name": f"public.{table}"}).scalar() is not None:
            yield f"ALTER TABLE public.{table} SET SCHEMA {own}"
            yield f"ALTER TABLE {own}.{table} OWNER TO {owner}"
    for ending, (on_tables, on_sequences) in RIGHTS.items():
        role = own + ending
        yield f"GRANT USAGE ON SCHEMA {own} TO {role}"
        for rights, kind in ((on_tables, "TABLES"), (on_sequences, "SEQUENCES")):
            if rights:
                yield f"GRANT {rights} ON ALL {kind} IN SCHEMA {own} TO {role}"
                yield f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA {own} GRANT {rights} ON {kind} TO {role}"
    yield "REVOKE CREATE ON SCHEMA public FROM PUBLIC"  # before version 15 everybody could
    yield f"REVOKE {owner} FROM CURRENT_USER"


def main(arguments: list[str] | None = None) -> str:
    """Does what the arguments say. Returns a line on the result; exits with the reason when it cannot."""
    purpose, _, explanation = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        prog="python -m services.roles",
        description=purpose,
        epilog=explanation,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--service", choices=tuple(SERVICES), required=True)
    parser.add_argument("--passwords", metavar="FOLDER", type=Path, help="files by the roles' names; never an argument")
    chosen = parser.parse_args(arguments)
    settings = load(SERVICES[chosen.service][1])
    engine = open_engine(settings.database_url, settings.database_timeout_s)
    try:
        prepare(engine, chosen.service, _passwords(chosen.service, chosen.passwords))
    except (Unavailable, SQLAlchemyError, OSError) as error:
        sys.exit(f"{chosen.service}: {error}")
    finally:
        engine.dispose()
    return f"{chosen.service}: schema {schema_of(chosen.service)}, roles {', '.join(roles_of(chosen.service))}"


def _passwords(service: str, folder: Path | None) -> dict[str, str]:
    files = [folder / role for role in roles_of(service)] if folder is not None else []
    return {file.name: file.read_text(encoding="utf-8").strip() for file in files if file.exists()}


if __name__ == "__main__":
    print(main())
