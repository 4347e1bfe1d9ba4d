"""A real PostgreSQL of the tests' own, where its programs are installed; a fresh schema for each test that asks.

It listens on a Unix socket in its own folder only, so it can neither meet nor be met by another server.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

PROGRAMS = ("initdb", "pg_ctl")
WHERE_DEBIAN_PUTS_THEM = "/usr/lib/postgresql"


def programs() -> Path | None:
    """The folder with PostgreSQL's programs, or None."""
    folders = [Path(found).resolve().parent for name in PROGRAMS if (found := shutil.which(name))]
    folders += sorted(Path(WHERE_DEBIAN_PUTS_THEM).glob("*/bin"), reverse=True)
    return next((folder for folder in folders if all((folder / name).exists() for name in PROGRAMS)), None)


class Postgres:
    """A running server."""

    def __init__(self, sockets: Path, user: str) -> None:
        self.user = user
        self.sockets = sockets
        self._where = f"host={sockets} user={user}"
        self._url = f"postgresql://{user}@/postgres?host={sockets}&options=-csearch_path%3D"

    def new_database(self) -> str:
        """URL of an empty database: a schema of one database, which is quicker to make."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(f"{self._where} dbname=postgres", autocommit=True) as connection:
            connection.execute(f'CREATE SCHEMA "{name}"')  # type: ignore[call-overload]
        return self._url + name

    def new_server_database(self) -> "PostgresDatabase":
        """An empty database of its own, for what knows schemas and roles."""
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(f"{self._where} dbname=postgres", autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[call-overload]
        return PostgresDatabase(self.sockets, name, self.user)


@dataclass(frozen=True)
class PostgresDatabase:
    """A database, and who made it."""

    sockets: Path
    name: str
    owner: str

    def url(self, role: str = "", password: str = "") -> str:
        """As a role sees it, by default who made it."""
        who = f"{role or self.owner}:{password}" if password else role or self.owner
        return f"postgresql://{who}@/{self.name}?host={self.sockets}"


@contextmanager
def running_postgres(bin_folder: Path, host: str = "") -> Iterator[Postgres]:
    """Starts a server with empty data and stops it at the end. Root may not run it, so lends it to nobody.

    Args:
        host: an address where everybody may call it, too, on port 5432.
    """
    user = "nobody" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    home = Path(tempfile.mkdtemp(prefix="perfusion-postgres-"))  # short: a socket's path has at most 107 characters
    if user == "nobody":
        shutil.chown(home, user)
    data = home / "data"

    def run(program: str, *arguments: str) -> None:
        command = [str(bin_folder / program), *arguments]
        with open(home / f"{program}.log", "ab") as log:
            subprocess.run(
                command, user=user if os.getuid() == 0 else None, cwd="/", stdout=log, stderr=log, check=True
            )

    try:
        run("initdb", "-D", str(data), "-U", user, "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
        if host:
            with (data / "pg_hba.conf").open("a") as access:
                access.write("host all all all trust\n")
        options = f"-k {home} -c listen_addresses='{host}' -c fsync=off"
        run("pg_ctl", "-D", str(data), "-w", "-o", options, "start")
        try:
            yield Postgres(home, user)
        finally:
            run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)
