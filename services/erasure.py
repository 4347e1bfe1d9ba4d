"""Erases a merchant from a service's database, and the pictures that nobody else holds.

python -m services.erasure --service generation --user ID [--audit FILE]
python -m services.erasure --service items --buyer-of ORDER [--audit FILE]      and --service studio

It reads the service's own settings (PERFUSION_DATABASE_URL, PERFUSION_OBJECT_STORE_URL); run it for each service that
keeps records. Groups, candidates, rounds and owed events go; so do picks, what is remembered of groups for them, the
history and the profile; so do the studio's rounds, stars, share links, the shop and who placed which order there, and
the sessions that act for them just now. Of the items' presales, those without orders go; the others are kept for the
books, without the merchant's name and words, and nothing is erased while one is under way. The service may run on. What
a round that is being drawn meanwhile still stores, and what of a history Kafka still gives, a second run finds. A
picture that was written within PERFUSION_SWEEP_GRACE_S stays for the service's own sweep, since another merchant's
round may just be storing the same one; a session that acts for another merchant and could act for this one ends within
PERFUSION_SESSION_AGE_S. What was done is printed as a line of JSON, and added to FILE: the merchant by SHA-256, the
time, how many rows of each table, how many pictures.

--buyer-of erases a buyer in a merchant's place: of all orders of whoever placed ORDER, to whom they were sent, who
placed them, how they were paid and where they met the item. It is refused while one of them is under way; what was
sold, for how much and when stays in the books. In the studio it goes that these orders were of one browser.
"""

import argparse
import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Table, delete, select
from sqlalchemy.exc import SQLAlchemyError

from services.feedback.adapters import tables as feedback
from services.generation.adapters import tables as generation
from services.generation.adapters.pictures import FsspecPictures
from services.generation.adapters.references import SqlReferences
from services.generation.pictures import is_object_name, name_in
from services.generation.settings import Settings as Generation
from services.items.adapters import tables as items
from services.items.adapters.erasing import NoOrder, UnderWay, erase_buyer
from services.items.adapters.erasing import erase as erase_items
from services.migrations import SERVICES
from services.runtime import migrations
from services.runtime.database import Database, open_engine
from services.runtime.errors import Unavailable
from services.runtime.settings import load
from services.studio.adapters import tables as studio
from services.user_embedding.adapters import tables as user_embedding

OWNED: dict[str, tuple[tuple[Table, str], ...]] = {  # tables, and the column that holds the merchant
    "user_embedding": (
        (user_embedding.profiles, "user_id"),
        (user_embedding.history_picks, "user_id"),
        (user_embedding.history_groups, "user_id"),
    ),
    "generation": (
        (generation.groups, "user_id"),
        (generation.OUTBOX.events, "key"),
        (generation.OUTBOX.keys, "key"),
    ),
    "feedback": (
        (feedback.picks, "user_id"),
        (feedback.shown_groups, "user_id"),
        (feedback.OUTBOX.events, "key"),
        (feedback.OUTBOX.keys, "key"),
    ),
    "items": (  # those with orders are kept without the merchant, services/items/adapters/erasing.py
        (items.presales, "user_id"),
        (items.orders, "user_id"),
        (items.OUTBOX.events, "key"),
        (items.OUTBOX.keys, "key"),
    ),
    "studio": (
        (studio.sessions, "user_id"),
        (studio.rounds, "user_id"),
        (studio.stars, "user_id"),
        (studio.shares, "user_id"),
        (studio.shops, "user_id"),
        (studio.placed_orders, "user_id"),
    ),
}
BUYERS = ("items", "studio")  # services that know buyers
_MOST_AT_ONCE = 500  # values in one query


def erase_rows(engine: Engine, service: str, user_id: str) -> tuple[dict[str, int], list[str]]:
    """Deletes a merchant's rows in one transaction; returns how many of each table, and the URIs of their pictures."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":  # else what is deleted stays in the file until it is written over
            connection.exec_driver_sql("PRAGMA secure_delete=ON")
        rows, uris = _erase_candidates(connection, user_id) if service == "generation" else ({}, [])
        if service == "items":
            rows |= erase_items(connection, user_id)
        for table, column in OWNED[service]:
            if table.name in rows:
                continue
            if table is generation.groups:
                rows |= _erase_groups(connection, user_id)
            else:
                rows[table.name] = connection.execute(delete(table).where(table.c[column] == user_id)).rowcount
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return rows, uris


def erase_buyer_of(engine: Engine, service: str, order_id: str) -> tuple[str, dict[str, int]]:
    """Erases who placed an order, in one transaction; returns who it was, and how many rows of each table changed."""
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA secure_delete=ON")
        buyer_id, rows = (erase_buyer if service == "items" else _erase_browser)(connection, order_id)
    if engine.dialect.name == "sqlite":
        with engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return buyer_id, rows


def _erase_browser(connection: Connection, order_id: str) -> tuple[str, dict[str, int]]:
    placed = studio.placed_orders
    found = connection.execute(select(placed.c.buyer_id).where(placed.c.order_id == order_id)).scalar_one_or_none()
    if found is None:
        raise NoOrder(f"there is no order {order_id}")
    return found, {placed.name: connection.execute(delete(placed).where(placed.c.buyer_id == found)).rowcount}


def _erase_candidates(connection: Connection, user_id: str) -> tuple[dict[str, int], list[str]]:
    theirs = select(generation.groups.c.group_id).where(generation.groups.c.user_id == user_id)
    query = delete(generation.candidates).where(generation.candidates.c.group_id.in_(theirs))
    uris = list(connection.execute(query.returning(generation.candidates.c.uri)).scalars())
    return {generation.candidates.name: len(uris)}, uris


def _erase_groups(connection: Connection, user_id: str) -> dict[str, int]:
    """Groups, and the rounds that made them, to which groups refer."""
    query = delete(generation.groups).where(generation.groups.c.user_id == user_id)
    group_ids = list(connection.execute(query.returning(generation.groups.c.group_id)).scalars())
    rounds = 0
    for some in _parts(group_ids):
        rounds += connection.execute(delete(generation.rounds).where(generation.rounds.c.group_id.in_(some))).rowcount
    return {generation.groups.name: len(group_ids), generation.rounds.name: rounds}


def _parts(values: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(values), _MOST_AT_ONCE):
        yield values[start : start + _MOST_AT_ONCE]


async def erase_pictures(settings: Generation, uris: Sequence[str]) -> dict[str, int]:
    """Removes those of the pictures that no group holds any more and that nobody may be storing just now."""
    database = Database(settings.database_url, generation.SCHEMA, timeout_s=settings.database_timeout_s, migrate=False)
    pictures = FsspecPictures(settings.object_store_url, timeout_s=settings.object_store_timeout_s)
    try:
        names = {name for uri in uris if is_object_name(name := name_in(uri))}
        held = await SqlReferences(database).named(sorted(names))  # also at the place of before the store was moved
        names -= held
        not_after_s = await pictures.now_s() - settings.sweep_grace_s
        removed = 0
        for name in sorted(names):
            removed += await pictures.delete(name, not_after_s=not_after_s)
    finally:
        await pictures.close()
        await database.close()
    return {"pictures_removed": removed, "pictures_held": len(held), "pictures_left_to_sweep": len(names) - removed}


def erase(service: str, user_id: str = "", *, buyer_of: str = "") -> dict[str, Any]:
    """Erases a merchant, or the buyer of an order, from one service; returns what is to be kept of it.

    Raises:
        NoOrder: there is no such order.
        Unavailable: the database is not at the service's newest revision, or it or the object store fails. Rows that
            are gone by then are rightly gone, and the sweep takes their pictures.
    """
    schema, settings_class = SERVICES[service]
    settings = load(settings_class)
    engine = open_engine(settings.database_url, settings.database_timeout_s)
    try:
        migrations.require_head(engine, schema)
        who, uris = user_id, list[str]()
        if buyer_of:
            who, rows = erase_buyer_of(engine, service, buyer_of)
        else:
            rows, uris = erase_rows(engine, service, user_id)
    finally:
        engine.dispose()
    done: dict[str, Any] = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"), "service": service,
        "buyer_sha256" if buyer_of else "user_sha256": hashlib.sha256(who.encode()).hexdigest(), "rows": rows,
    }  # fmt: skip
    if isinstance(settings, Generation) and uris:
        done |= asyncio.run(erase_pictures(settings, uris))
    return done


def _write_down(file: Path, line: str) -> None:
    with file.open("a", encoding="utf-8") as opened:
        opened.write(line + "\n")
        opened.flush()
        os.fsync(opened.fileno())


def main(arguments: list[str] | None = None) -> str:
    """Returns what was done as JSON; exits with the reason when it could not be."""
    purpose = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m services.erasure", description=purpose)
    parser.add_argument("--service", choices=tuple(OWNED), required=True)
    who = parser.add_mutually_exclusive_group(required=True)
    who.add_argument("--user", metavar="ID", default="", help="the merchant")
    who.add_argument("--buyer-of", metavar="ORDER", default="", help="whoever placed this order (items, studio)")
    parser.add_argument("--audit", type=Path, metavar="FILE", help="add what was done to this file")
    chosen = parser.parse_args(arguments)
    if chosen.buyer_of and chosen.service not in BUYERS:
        parser.error(f"--buyer-of is for {' and '.join(BUYERS)}: {chosen.service} knows no buyers")
    try:
        said = json.dumps(erase(chosen.service, chosen.user, buyer_of=chosen.buyer_of))
        if chosen.audit:
            _write_down(chosen.audit, said)
    except (Unavailable, UnderWay, NoOrder, SQLAlchemyError, OSError) as error:
        sys.exit(f"{chosen.service}: {error}")
    return said


if __name__ == "__main__":
    print(main())
