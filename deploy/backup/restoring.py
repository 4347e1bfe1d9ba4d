"""Restores a back-up into an empty platform, before it starts; and erases again who was erased since.

Files are compared with their hashes first. Of the databases generation's is first, whose merchants the others' counts
need. A call that was interrupted goes on: what is there already, as the back-up has it, stays; anything else is
refused.
"""

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import select

from deploy.backup import databases, tables
from deploy.backup.files import give
from deploy.backup.places import BackupError, Places
from deploy.backup.record import Record
from services.erasure import OWNED, erase_buyer_of, erase_pictures, erase_rows
from services.generation.settings import Settings as Generation
from services.items.adapters import tables as items
from services.items.adapters.erasing import UnderWay
from services.migrations import SERVICES
from services.runtime import migrations
from services.runtime.database import open_engine
from services.studio.adapters import tables as studio
from training.retraining.erasing import erase as erase_from_lake
from training.retraining.lake import Lake

Say = Callable[[str], None]
BUYERS = {"items": items.orders, "studio": studio.placed_orders}  # which buyer placed which order
ORDER = ("generation", "studio", "feedback", "items", "user_embedding")


def restore(folder: Path, places: Places, erasures: Path | None, say: Say) -> dict[str, Any]:
    """The whole; returns what was restored, and who had to be erased again.

    Args:
        folder: of a complete back-up.
        places: of an empty platform that does not run.
        erasures: the file that `python -m services.erasure --audit` adds to, kept apart from back-ups.

    Raises:
        BackupError: the back-up is damaged or not complete, or something is there already.
    """
    record = Record.read(folder)
    if record is None:
        raise BackupError(f"{folder} holds no back-up")
    record.verify(folder)
    for step in ("releases", "pictures", "lake"):
        say(f"{step} …")
        give(folder / step, record.below(step), getattr(places, step))
    merchants: set[str] = set()
    for service in ORDER:
        if record.steps[service].get("absent"):
            continue
        say(f"{service} …")
        [copy] = (path for path in record.below("databases") if path.startswith(f"{service}."))
        databases.restore(service, folder / "databases" / copy, places.databases[service], record.id, merchants)
        if service == "generation":
            merchants = databases.merchants_of(places.databases[service])
        engine = open_engine(places.databases[service], databases.TIMEOUT_S)
        migrations.upgrade(engine, SERVICES[service][0])  # of an earlier version of the platform
        engine.dispose()
    again = _erase_again(record, places, erasures, say) if erasures else {}
    return {"id": record.id, "began": record.began, "files": len(record.files), "erased_again": again}


def _services(record: Record) -> list[str]:
    """Those that have tables."""
    return [service for service in OWNED if not record.steps[service].get("absent")]


def _erase_again(record: Record, places: Places, erasures: Path, say: Say) -> dict[str, Any]:
    """Those whom any service erased after the back-up began: their rows may be in it."""
    lines = [json.loads(line) for line in erasures.read_text().splitlines()]
    since = [line for line in lines if _second(line["time"]) >= _second(record.began)]
    hashes = {line["user_sha256"] for line in since if "user_sha256" in line}
    buyers = {line["buyer_sha256"] for line in since if "buyer_sha256" in line}
    everybody = _merchants(record, places) | tables.merchants_of(Lake(places.lake))
    gone = [each for each in sorted(everybody) if hashlib.sha256(each.encode()).hexdigest() in hashes]
    done: dict[str, Any] = {
        "asked_for": len(hashes | buyers), "merchants": len(gone), "buyers": 0, "rows": 0, "pictures": 0, "kept": []
    }  # fmt: skip
    for user_id in gone:
        say(f"erasing again: {hashlib.sha256(user_id.encode()).hexdigest()[:12]}")
        for service in _services(record):
            url = places.databases[service]
            engine = open_engine(url, databases.TIMEOUT_S)
            try:
                rows, uris = erase_rows(engine, service, user_id)
            except UnderWay as error:  # the sale was not over when the back-up was taken
                done["kept"].append(f"{service}: {error}")
                continue
            finally:
                engine.dispose()
            done["rows"] += sum(rows.values())
            if uris:
                store = places.pictures if "://" in places.pictures else f"file://{places.pictures}"
                settings = Generation(database_url=url, object_store_url=store)
                settings = settings.model_copy(update={"sweep_grace_s": 0.0})  # nobody stores pictures now
                done["pictures"] += asyncio.run(erase_pictures(settings, uris))["pictures_removed"]
        done["rows"] += sum(erase_from_lake(Lake(places.lake), user_id)[name] for name in ("events", "groups", "shop"))
    _erase_buyers_again(record, places, buyers, done)
    return done


def _erase_buyers_again(record: Record, places: Places, hashes: set[str], done: dict[str, Any]) -> None:
    """Adds what it did to `done`."""
    found: set[str] = set()
    for service in (service for service in _services(record) if service in BUYERS):
        placed, engine = BUYERS[service].c, open_engine(places.databases[service], databases.TIMEOUT_S)
        with engine.connect() as connection:
            rows = connection.execute(select(placed.buyer_id, placed.order_id)).all()
        for buyer_id, order_id in {row.buyer_id: row.order_id for row in rows}.items():
            if (digest := hashlib.sha256(buyer_id.encode()).hexdigest()) not in hashes:
                continue
            try:
                done["rows"] += sum(erase_buyer_of(engine, service, order_id)[1].values())
            except UnderWay as error:
                done["kept"].append(f"{service}: {error}")
                continue
            found.add(digest)
        engine.dispose()
    done["buyers"] = len(found)


def _second(time: str) -> str:
    """Both kinds of times are RFC 3339 in UTC, and compared by their seconds."""
    return time[:19]


def _merchants(record: Record, places: Places) -> set[str]:
    found: set[str] = set()
    for service in _services(record):
        engine = open_engine(places.databases[service], databases.TIMEOUT_S)
        with engine.connect() as connection:
            for table, column in OWNED[service]:
                found |= set(connection.execute(select(table.c[column]).distinct()).scalars())
        engine.dispose()
    return found
