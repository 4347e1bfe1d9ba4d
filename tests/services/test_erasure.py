"""An erased merchant is in no table of any service, everybody else is as before, and pictures go that nobody holds."""

import asyncio
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from services.erasure import OWNED, main
from services.generation.adapters.pictures import FsspecPictures
from services.generation.adapters.tables import SCHEMA, candidates
from services.items.adapters.tables import orders, presales, recipients
from services.migrations import SERVICES
from services.runtime.database import open_engine
from services.runtime.migrations import Schema, upgrade
from tests.services.postgres import Postgres
from tests.services.test_migrations import read, reflected, value_for

GONE, STAYS = "store-1 ☂", "store-2 ☂"
Rows = dict[str, list[dict[str, Any]]]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database of each kind, which the settings name."""
    url = f"sqlite:///{tmp_path}/service.sqlite"
    if request.param == "postgresql":
        postgres: Postgres = request.getfixturevalue("postgres")
        url = postgres.new_database()
    monkeypatch.setenv("PERFUSION_DATABASE_URL", url)
    monkeypatch.setenv("PERFUSION_OBJECT_STORE_URL", f"file://{tmp_path}/objects")
    return url


def filled(url: str, schema: Schema) -> Engine:
    """A row of either merchant in every table that there is."""
    engine = open_engine(url, timeout_s=20)
    upgrade(engine, schema)
    with engine.begin() as connection:
        for table in reflected(engine, schema).values():
            for n in (1, 2):
                values = {c.name: value_for(c.type, c.name, n) for c in table.columns}
                values |= {c.name: f"store-{n} ☂" for c in table.columns if c.name in ("user_id", "key")}
                connection.execute(table.insert().values(values))
    return engine


NOBODYS = {  # say nothing of merchants
    "history_offsets",
    "studio_studies",
    "studio_study_answers",
    "studio_study_pictures",
    "studio_study_raters",
    "studio_study_tasks",
    "studio_study_views",
}


@pytest.mark.parametrize("service", sorted(SERVICES.keys() - {"items"}))  # which keeps books of money: below
def test_every_table_loses_the_merchant_and_keeps_the_other(service: str, url: str, tmp_path: Path) -> None:
    schema = SERVICES[service][0]
    engine = filled(url, schema)
    before = read(engine, schema)
    audit = tmp_path / "erasures.jsonl"
    done = json.loads(main(["--service", service, "--user", GONE, "--audit", str(audit)]))
    kept = {name: rows if name in NOBODYS else [rows[1]] for name, rows in before.items()}
    assert read(engine, schema) == kept
    assert done["rows"] == dict.fromkeys(before.keys() - NOBODYS, 1)
    again = json.loads(main(["--service", service, "--user", GONE, "--audit", str(audit)]))
    assert set(again["rows"].values()) == {0}
    written = [json.loads(line) for line in audit.read_text().splitlines()]
    assert written == [done, again] and written[0]["user_sha256"] == hashlib.sha256(GONE.encode()).hexdigest()
    assert "store-1" not in audit.read_text()
    engine.dispose()


def test_every_service_that_keeps_records_is_known() -> None:
    assert OWNED.keys() == SERVICES.keys()


def test_nothing_of_the_merchant_stays_in_sqlites_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERFUSION_DATABASE_URL", url := f"sqlite:///{tmp_path}/service.sqlite")
    filled(url, SERVICES["feedback"][0]).dispose()
    main(["--service", "feedback", "--user", GONE])
    for file in tmp_path.glob("service.sqlite*"):
        assert b"store-1" not in file.read_bytes()


def test_a_database_without_its_tables_is_refused(url: str) -> None:
    with pytest.raises(SystemExit, match="feedback: "):
        main(["--service", "feedback", "--user", GONE])


def test_pictures_go_that_no_group_holds_and_that_are_not_just_being_stored(url: str, tmp_path: Path) -> None:
    pictures = FsspecPictures(f"file://{tmp_path}/objects", timeout_s=20)
    names = ("own", "shared", "young")
    uris = {name: asyncio.run(pictures.put(name.encode())) for name in names}
    for name in ("own", "shared"):
        os.utime(uris[name].removeprefix("file://"), (time.time() - 7200,) * 2)
    engine = filled(url, SCHEMA)
    with engine.begin() as connection:
        for rank, (group, uri) in enumerate([(1, "own"), (1, "shared"), (1, "young"), (2, "shared")], start=3):
            values = {c.name: value_for(c.type, c.name, group) for c in candidates.columns}
            values |= {"rank": rank, "uri": uris[uri], "image_id": f"picture {rank}"}
            connection.execute(candidates.insert().values(values))
    done = json.loads(main(["--service", "generation", "--user", GONE]))
    there = {name for name in names if Path(uris[name].removeprefix("file://")).exists()}
    assert there == {"shared", "young"}
    assert (done["pictures_removed"], done["pictures_held"]) == (1, 1) and done["rows"]["candidates"] == 4
    assert main(["--service", "generation", "--user", STAYS])
    assert not Path(uris["shared"].removeprefix("file://")).exists()
    engine.dispose()
    asyncio.run(pictures.close())


def test_a_picture_that_another_group_names_at_the_old_place_stays(url: str, tmp_path: Path) -> None:
    pictures = FsspecPictures(f"file://{tmp_path}/objects", timeout_s=20)
    uri = asyncio.run(pictures.put(b"shared"))
    os.utime(uri.removeprefix("file://"), (time.time() - 7200,) * 2)
    engine = filled(url, SCHEMA)
    with engine.begin() as connection:
        for rank, (group, said) in enumerate([(1, uri), (2, uri.replace("/objects/", "/before/"))], start=3):
            values = {c.name: value_for(c.type, c.name, group) for c in candidates.columns}
            connection.execute(candidates.insert().values(values | {"rank": rank, "uri": said, "image_id": f"p{rank}"}))
    done = json.loads(main(["--service", "generation", "--user", GONE]))
    assert (done["pictures_removed"], done["pictures_held"]) == (0, 1)
    assert Path(uri.removeprefix("file://")).exists()
    engine.dispose()
    asyncio.run(pictures.close())


def sold(url: str, state: str, orders_state: str | None) -> Engine:
    """A presale of either merchant, in this state, with an order of it."""
    engine = open_engine(url, timeout_s=20)
    upgrade(engine, SERVICES["items"][0])
    words = {"title": "Linen dress of store-1 ☂", "description": "ours", "group_id": "g", "image_id": "i", "price": 5}
    with engine.begin() as connection:
        for n in (1, 2):
            values = {c.name: value_for(c.type, c.name, n) for c in presales.columns}
            named = {"user_id": f"store-{n} ☂", "terms": words, "asked": words, "state": state}
            connection.execute(presales.insert().values(values | named))
            if orders_state is not None:
                values = {c.name: value_for(c.type, c.name, n) for c in orders.columns}
                named = {"user_id": f"store-{n} ☂", "state": orders_state}
                connection.execute(orders.insert().values(values | named))
    return engine


def test_books_of_money_are_kept_without_the_merchant(url: str) -> None:
    engine = sold(url, "shipped", "refunded")
    done = json.loads(main(["--service", "items", "--user", GONE]))
    assert done["rows"]["presales"] == done["rows"]["orders"] == 1
    kept = read(engine, SERVICES["items"][0])
    assert len(kept["presales"]) == len(kept["orders"]) == 2
    ours, others = ([row for row in kept["presales"] if ("erased" in row["user_id"]) is gone] for gone in (True, False))
    assert ours[0]["terms"] == {"title": "", "description": "", "group_id": "", "image_id": "", "price": 5}
    assert others[0]["terms"]["title"] and "store-1" not in json.dumps(ours[0]) and "store-1" not in str(kept["orders"])
    assert {row["user_id"] for row in kept["orders"]} == {row["user_id"] for row in kept["presales"]}
    engine.dispose()


def test_a_presale_that_nobody_ordered_goes(url: str) -> None:
    engine = sold(url, "draft", None)
    main(["--service", "items", "--user", GONE])
    assert [row["user_id"] for row in read(engine, SERVICES["items"][0])["presales"]] == [STAYS]
    engine.dispose()


def with_orders(url: str, *states: str) -> tuple[Engine, list[str]]:
    """Orders of one buyer in these states, and one of another; all of the first merchant's presale."""
    engine = sold(url, "shipped", None)
    ids = []
    with engine.begin() as connection:
        for n, state in enumerate((*states, "shipped"), 1):
            values = {c.name: value_for(c.type, c.name, n) for c in orders.columns}
            presale_id = value_for(presales.c.presale_id.type, "presale_id", 1)
            named = {"presale_id": presale_id, "user_id": GONE, "state": state, "amount": 1999}
            values |= named | {"buyer_id": "bo" if n <= len(states) else "al"}
            connection.execute(orders.insert().values(values))
            who = {"name": "Ek", "address": "Storgatan 1", "email": f"{values['buyer_id']}@ek.example"}
            connection.execute(recipients.insert().values(who | {"order_id": values["order_id"]}))
            ids.append(values["order_id"])
    return engine, ids


def test_a_buyer_goes_from_all_their_orders_and_from_nobody_elses(url: str, tmp_path: Path) -> None:
    engine, ids = with_orders(url, "shipped", "refunded")
    done = json.loads(main(["--service", "items", "--buyer-of", ids[1], "--audit", str(tmp_path / "audit")]))
    assert done["rows"] == {"order_recipients": 2, "orders": 2}
    assert done["buyer_sha256"] == hashlib.sha256(b"bo").hexdigest() and "user_sha256" not in done
    kept = read(engine, SERVICES["items"][0])
    [other] = kept["order_recipients"]
    assert (other["order_id"], other["email"]) == (ids[2], "al@ek.example")
    theirs = [row for row in kept["orders"] if row["order_id"] in ids[:2]]
    assert len({row["buyer_id"] for row in theirs}) == 1 and theirs[0]["buyer_id"].startswith("erased ")
    assert {(row["payment_method"], row["encounter"], row["amount"]) for row in theirs} == {("", None, 1999)}
    assert [row["buyer_id"] for row in kept["orders"] if row["order_id"] == ids[2]] == ["al"]
    engine.dispose()


def test_a_buyer_whose_order_is_under_way_and_an_order_that_there_is_not(url: str) -> None:
    engine, ids = with_orders(url, "shipped", "committed")
    with pytest.raises(SystemExit, match=f"these orders have to end first: {ids[1]}"):
        main(["--service", "items", "--buyer-of", ids[0]])
    assert len(read(engine, SERVICES["items"][0])["order_recipients"]) == 3
    with pytest.raises(SystemExit, match="there is no order nothing"):
        main(["--service", "items", "--buyer-of", "nothing"])
    with pytest.raises(SystemExit, match="2"):
        main(["--service", "feedback", "--buyer-of", ids[0]])
    engine.dispose()


def test_a_browsers_orders_are_forgotten_in_the_studio(url: str) -> None:
    engine = filled(url, SERVICES["studio"][0])
    order_id = read(engine, SERVICES["studio"][0])["studio_orders"][0]["order_id"]
    assert json.loads(main(["--service", "studio", "--buyer-of", order_id]))["rows"] == {"studio_orders": 1}
    assert len(read(engine, SERVICES["studio"][0])["studio_orders"]) == 1
    engine.dispose()


def test_a_merchant_who_goes_takes_their_buyers_addresses_along(url: str) -> None:
    engine, _ = with_orders(url, "shipped")
    assert json.loads(main(["--service", "items", "--user", GONE]))["rows"]["order_recipients"] == 2
    assert read(engine, SERVICES["items"][0])["order_recipients"] == []
    engine.dispose()


@pytest.mark.parametrize(("state", "order"), [("open", None), ("shipped", "cancelling")])
def test_nothing_is_erased_while_buyers_money_is_on_its_way(url: str, state: str, order: str | None) -> None:
    engine = sold(url, state, order)
    with pytest.raises(SystemExit, match="end these sales first"):
        main(["--service", "items", "--user", GONE])
    assert len({row["user_id"] for row in read(engine, SERVICES["items"][0])["presales"]}) == 2
    engine.dispose()
