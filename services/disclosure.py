"""Writes down all that a service keeps of one merchant: what they may ask for, and take along.

python -m services.disclosure --service generation --user ID --out FOLDER

It reads the service's own settings, as services.erasure does; run it for each service that keeps records, into one
folder. FOLDER/SERVICE.json has every row that is about the merchant, by table and column, all as they were at one time;
bytes are base64. FOLDER/pictures/ has the pictures of their groups, named by the ends of the rows' URIs, with "-" for
"/"; one that the store has lost is named as such. The lake of training data is not a service's (docs/loop.md). Whom
orders were sent to is their buyers' own, and not written down.
"""

import argparse
import asyncio
import base64
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, select
from sqlalchemy.exc import SQLAlchemyError
from tqdm import tqdm

from services.erasure import OWNED
from services.generation.adapters import tables as generation
from services.generation.adapters.pictures import FsspecPictures
from services.generation.pictures import Loss, name_in
from services.generation.settings import Settings as Generation
from services.items.adapters import tables as items
from services.migrations import SERVICES
from services.runtime import migrations
from services.runtime.database import open_engine
from services.runtime.errors import Unavailable
from services.runtime.settings import load

Rows = list[dict[str, Any]]


def rows_of(connection: Connection, service: str, user_id: str) -> dict[str, Rows]:
    """A merchant's rows by table."""
    found = {
        table.name: _rows(connection, select(table).where(table.c[column] == user_id))
        for table, column in OWNED[service]
    }
    if service == "generation":
        theirs = select(generation.groups.c.group_id).where(generation.groups.c.user_id == user_id)
        for table in (generation.candidates, generation.rounds):
            found[table.name] = _rows(connection, select(table).where(table.c.group_id.in_(theirs)))
    if service == "items":
        sales = select(items.presales.c.presale_id).where(items.presales.c.user_id == user_id)
        sold = select(items.orders.c.order_id).where(items.orders.c.user_id == user_id)
        for table in (items.changes, items.delays):
            found[table.name] = _rows(connection, select(table).where(table.c.presale_id.in_(sales)))
        for table in (items.ledger, items.operations):
            found[table.name] = _rows(connection, select(table).where(table.c.order_id.in_(sold)))
    return found


def _rows(connection: Connection, query: Select[Any]) -> Rows:
    return [{name: _plain(value) for name, value in row.items()} for row in connection.execute(query).mappings()]


def _plain(value: Any) -> Any:
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


async def write_pictures(settings: Generation, uris: Sequence[str], folder: Path) -> list[str]:
    """Writes the pictures, with a progress bar; returns the URIs of those that the store has lost."""
    pictures = FsspecPictures(settings.object_store_url, timeout_s=settings.object_store_timeout_s)
    folder.mkdir(parents=True, exist_ok=True)
    lost = []
    try:
        for uri in tqdm(sorted(set(uris)), desc="pictures", disable=None):
            png = await pictures.get(uri)
            if isinstance(png, Loss):
                lost.append(uri)
            else:
                (folder / name_in(uri).replace("/", "-")).write_bytes(png)
    finally:
        await pictures.close()
    return lost


def disclose(service: str, user_id: str, folder: Path) -> dict[str, Any]:
    """Writes what one service keeps of a merchant; returns how many rows of each table, and what is lost.

    Raises:
        Unavailable: the database is not at the service's newest revision, or it or the object store fails.
    """
    schema, settings_class = SERVICES[service]
    settings = load(settings_class)
    engine = open_engine(settings.database_url, settings.database_timeout_s)
    try:
        migrations.require_head(engine, schema)
        with engine.connect().execution_options(isolation_level="SERIALIZABLE") as connection, connection.begin():
            rows = rows_of(connection, service, user_id)
    finally:
        engine.dispose()
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # what is in it is the merchant's alone
    text = json.dumps({"user_id": user_id, "service": service, "tables": rows}, indent=1, ensure_ascii=False)
    (folder / f"{service}.json").write_text(text + "\n", encoding="utf-8")
    done: dict[str, Any] = {"service": service, "rows": {name: len(each) for name, each in rows.items()}}
    if isinstance(settings, Generation):
        uris = [str(row["uri"]) for row in rows[generation.candidates.name]]
        done["lost_pictures"] = asyncio.run(write_pictures(settings, uris, folder / "pictures"))
    return done


def main(arguments: list[str] | None = None) -> str:
    """Returns what was written as JSON; exits with the reason when it could not be."""
    purpose = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m services.disclosure", description=purpose)
    parser.add_argument("--service", choices=tuple(OWNED), required=True)
    parser.add_argument("--user", metavar="ID", required=True, help="the merchant")
    parser.add_argument("--out", type=Path, metavar="FOLDER", required=True, help="made if it is not there")
    chosen = parser.parse_args(arguments)
    try:
        return json.dumps(disclose(chosen.service, chosen.user, chosen.out))
    except (Unavailable, SQLAlchemyError, OSError) as error:
        sys.exit(f"{chosen.service}: {error}")


if __name__ == "__main__":
    print(main())
