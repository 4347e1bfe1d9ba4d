"""A back-up of a platform that goes on, restored into an empty one: nothing of before the point is missing or twice."""

import hashlib
import json
import sqlite3
from collections import Counter
from pathlib import Path

import fsspec
import pytest
from sqlalchemy import create_engine, insert, select, text

from deploy.backup import files as copying
from deploy.backup import taking
from deploy.backup.__main__ import main
from deploy.backup.databases import LIFT
from deploy.backup.databases import restore as restore_database
from deploy.backup.databases import take as take_database
from deploy.backup.drill import _is_right
from deploy.backup.places import BackupError, Places
from deploy.backup.record import Record, now
from deploy.backup.restoring import restore
from deploy.backup.taking import take
from services import roles
from services.feedback.adapters import tables as feedback
from services.generation.adapters import tables as generation
from services.generation.pictures import name_in
from services.migrations import SERVICES
from services.roles import OWNER, schema_of
from services.runtime.database import open_engine
from services.runtime.migrations import current, upgrade
from services.studio.adapters import tables as studio
from tests.deploy.backup.conftest import GONE, LATER, STAYS, Platform, places_in
from tests.services.postgres import Postgres
from tests.services.test_migrations import read, value_for
from tests.training.retraining.events import Log, group, pick, uuid
from tests.training.retraining.test_collecting import Collecting
from training.retraining.broker import Bounds
from training.retraining.offsets import OffsetsLost


def quiet(_: str) -> None: ...


def values(places: Places, service: str, column: object) -> Counter[str]:
    engine = open_engine(places.databases[service], 20)
    with engine.connect() as connection:
        found = Counter(connection.execute(select(column)).scalars())  # type: ignore[call-overload]
    engine.dispose()
    return found


def target(tmp_path: Path, store: str) -> Places:
    return places_in(tmp_path / "restored", f"{store}/restored" if store else "")


def test_what_was_acknowledged_before_the_point_is_there_once(platform: Platform, tmp_path: Path, store: str) -> None:
    platform.round("waits", STAYS, collected=False)  # Kafka alone has its events, and no outbox
    record = take(platform.places, tmp_path / "backup", quiet)
    platform.round("after", STAYS)
    restored = target(tmp_path, store)
    said = restore(tmp_path / "backup", restored, None, quiet)
    assert said["id"] == record.id and record.complete > record.began
    expected = {uuid(name): 1 for name in ("a", "b", "waits")}
    assert values(restored, "generation", generation.groups.c.group_id) == expected
    assert values(restored, "feedback", feedback.picks.c.group_id) == expected
    lake = Collecting(restored.lake)
    assert lake.rows().keys() == expected.keys() and len(lake.events()) == 6
    files, root = fsspec.core.url_to_fs(restored.pictures)
    for uri in values(restored, "generation", generation.candidates.c.uri):
        assert files.cat_file(f"{root}/{name_in(uri)}") in (b"a", b"b", b"waits")
    files, root = fsspec.core.url_to_fs(restored.releases)
    assert files.cat_file(f"{root}/releases/current") == b"1\n" and files.exists(f"{root}/denoiser/1/model.onnx")


@pytest.mark.parametrize("store", ["folder"], indirect=True)
def test_collecting_goes_on_once_with_a_new_kafka(platform: Platform, tmp_path: Path, store: str) -> None:
    take(platform.places, tmp_path / "backup", quiet)
    restored = target(tmp_path, store)
    restore(tmp_path / "backup", restored, None, quiet)
    again = Collecting(restored.lake)
    again.log = Log(cluster="another")
    again.log.put(group("b", GONE), pick("b", 0, user_id=GONE), group("new"), pick("new", 1))  # "b" was still owed
    with pytest.raises(OffsetsLost, match="cluster:another"):
        again.collect()
    collector = again.open()
    starts = collector.starts({p: Bounds(0, end) for p, end in again.log.ends().items()}, ["cluster:another"])
    assert set(starts.values()) == {0}
    collector.add(again.log.records, again.log.ends())
    assert again.rows().keys() == {uuid(name) for name in ("a", "b", "new")}
    assert Counter(again.events()).most_common(1)[0][1] == 1 and len(again.events()) == 6


@pytest.mark.parametrize("store", ["folder"], indirect=True)
def test_an_erased_merchant_does_not_come_back(platform: Platform, tmp_path: Path, store: str) -> None:
    take(platform.places, tmp_path / "backup", quiet)
    lines = [
        {"time": "2020-01-01T00:00:00+00:00", "service": "feedback", "user_sha256": _hash(STAYS), "rows": {}},
        {"time": now()[:19] + "+00:00", "service": "generation", "user_sha256": _hash(GONE), "rows": {}},
        {"time": now()[:19] + "+00:00", "service": "feedback", "user_sha256": _hash(GONE), "rows": {}},
    ]
    (tmp_path / "erasures.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    restored = target(tmp_path, store)
    said = restore(tmp_path / "backup", restored, tmp_path / "erasures.jsonl", quiet)["erased_again"]
    assert (said["asked_for"], said["merchants"], said["pictures"], said["kept"]) == (1, 1, 1, [])
    assert values(restored, "generation", generation.groups.c.user_id) == {
        STAYS: 1
    }  # of an older erasure, and back since
    assert values(restored, "feedback", feedback.picks.c.user_id) == {STAYS: 1}
    lake = Collecting(restored.lake)
    assert lake.rows().keys() == {uuid("a")} and len(lake.events()) == 2
    lake.log.put(group("a", STAYS), pick("a", 0, user_id=STAYS), group("b", GONE), pick("b", 0, user_id=GONE))
    lake.collect()
    assert lake.rows().keys() == {uuid("a")}  # what Kafka gives again of them is dropped
    assert len(copying.listed(restored.pictures)) == 1


def test_an_erased_buyer_does_not_come_back(platform: Platform, tmp_path: Path, store: str) -> None:
    placed = studio.placed_orders
    engine = open_engine(platform.places.databases["studio"], 20)
    of = {"user_id": STAYS, "presale_id": uuid("sale"), "create_time_us": 1}
    orders = [("one", "bo"), ("two", "bo"), ("three", "li")]
    with engine.begin() as connection:
        connection.execute(insert(placed), [of | {"order_id": uuid(n), "buyer_id": buyer} for n, buyer in orders])
    engine.dispose()
    take(platform.places, tmp_path / "backup", quiet)
    line = {"time": now()[:19] + "+00:00", "service": "studio", "buyer_sha256": _hash("bo"), "rows": {}}
    (tmp_path / "erasures.jsonl").write_text(json.dumps(line) + "\n")
    restored = target(tmp_path, store)
    said = restore(tmp_path / "backup", restored, tmp_path / "erasures.jsonl", quiet)["erased_again"]
    assert (said["asked_for"], said["merchants"], said["buyers"], said["rows"], said["kept"]) == (1, 0, 1, 2, [])
    assert values(restored, "studio", placed.c.buyer_id) == {"li": 1}


def _hash(user_id: str) -> str:
    return hashlib.sha256(user_id.encode()).hexdigest()


@pytest.mark.parametrize("store", ["folder"], indirect=True)
def test_new_picks_count_more_than_those_that_the_database_forgot(platform: Platform, tmp_path: Path) -> None:
    platform.round("first", LATER, picked=False)
    take(platform.places, tmp_path / "backup", quiet)
    restore(tmp_path / "backup", restored := target(tmp_path, ""), None, quiet)
    engine = open_engine(restored.databases["feedback"], 20)
    with engine.connect() as connection:
        keys = feedback.OUTBOX.keys
        counts = {row.key: row.last_sequence for row in connection.execute(select(keys))}
    engine.dispose()
    assert counts == {STAYS: LIFT + 1, GONE: LIFT + 1, LATER: LIFT}  # whose first pick the lake may have by now


@pytest.mark.parametrize("store", ["folder"], indirect=True)
@pytest.mark.parametrize("step", ["_database", "_lake", "_pictures", "_releases"])
def test_an_interrupted_back_up_goes_on(
    step: str, platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(taking, step, _killed)
        with pytest.raises(KeyboardInterrupt):
            take(platform.places, tmp_path / "backup", quiet)
    begun = Record.read(tmp_path / "backup")
    assert begun is not None
    with pytest.raises(BackupError, match="not complete"):
        restore(tmp_path / "backup", target(tmp_path, ""), None, quiet)
    done = take(platform.places, tmp_path / "backup", quiet)
    assert (done.id, done.began) == (begun.id, begun.began)
    assert {name: done.steps[name] for name in begun.steps} == begun.steps  # and is not done again
    restore(tmp_path / "backup", target(tmp_path, ""), None, quiet)


def _killed(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("store", ["folder"], indirect=True)
def test_an_interrupted_restore_goes_on_and_nothing_is_written_over(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(platform.places, tmp_path / "backup", quiet)
    restored = target(tmp_path, "")
    with monkeypatch.context() as patch:
        patch.setattr("deploy.backup.databases.merchants_of", _killed)
        with pytest.raises(KeyboardInterrupt):
            restore(tmp_path / "backup", restored, None, quiet)
    for _ in range(2):
        restore(tmp_path / "backup", restored, None, quiet)
    counts = values(restored, "feedback", feedback.OUTBOX.keys.c.last_sequence)
    assert counts == {LIFT + 1: 2}  # once
    with pytest.raises(BackupError, match="is not empty|is there already"):
        restore(tmp_path / "backup", platform.places, None, quiet)
    other = target(tmp_path / "other", "")
    engine = open_engine(other.databases["studio"], 20)
    upgrade(engine, SERVICES["studio"][0])
    engine.dispose()
    with pytest.raises(BackupError, match=r"studio.sqlite is there already"):
        restore(tmp_path / "backup", other, None, quiet)


@pytest.mark.parametrize("store", ["folder"], indirect=True)
def test_a_damaged_back_up_is_refused(platform: Platform, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "backup"
    record = take(platform.places, folder, quiet)
    assert main(["verify", "--from", str(folder)]) == 0
    for path in ("databases/feedback.sqlite", next(path for path in record.files if path.startswith("pictures/"))):
        content = (folder / path).read_bytes()
        for wrong in (content[:-1], content[:-1] + bytes([content[-1] ^ 1])):
            (folder / path).write_bytes(wrong)
            assert main(["verify", "--from", str(folder)]) == 1 and path in capsys.readouterr().err
        (folder / path).write_bytes(content)
    (folder / path).unlink()
    with pytest.raises(BackupError, match="missing"):
        restore(folder, target(tmp_path, ""), None, quiet)
    assert not (tmp_path / "restored").exists()


@pytest.mark.parametrize("store", ["folder"], indirect=True)
def test_a_database_that_is_written_meanwhile_is_of_one_moment(platform: Platform, tmp_path: Path) -> None:
    """A transaction that is open while the copy is taken is not in it, and does not hold it up."""
    file = Path(platform.places.databases["generation"].removeprefix("sqlite:///"))
    with sqlite3.connect(file, isolation_level=None) as writing:
        writing.execute("BEGIN IMMEDIATE")
        writing.execute("DELETE FROM candidates")
        take_database("generation", platform.places.databases["generation"], tmp_path / "generation.sqlite")
        writing.execute("COMMIT")
    engine = create_engine(f"sqlite:///{tmp_path / 'generation.sqlite'}")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM candidates")).scalar() == 2


def test_postgresql_by_its_roles(postgres: Postgres, tmp_path: Path) -> None:
    """The reader's role is enough to copy, the owner's to restore; then the service's works."""
    source, empty = postgres.new_server_database(), postgres.new_server_database()
    schema, own = SERVICES["feedback"][0], schema_of("feedback")
    for database in (source, empty):
        engine = open_engine(database.url(), 20)
        roles.prepare(engine, "feedback", {})
        engine.dispose()
    engine = open_engine(source.url(own + OWNER), 20)
    upgrade(engine, schema)
    with engine.begin() as connection:
        for table in schema.metadata.sorted_tables:
            connection.execute(table.insert().values({c.name: value_for(c.type, c.name, 1) for c in table.columns}))
    before = read(engine, schema)
    engine.dispose()
    dump = tmp_path / "feedback.dump"
    assert take_database("feedback", source.url(own + "_reader"), dump)["revision"] == schema.head
    for _ in range(2):  # done again, it changes nothing
        restore_database("feedback", dump, empty.url(own + OWNER), "0" * 32, ["somebody"])
    engine = open_engine(empty.url(own), 20)
    after = read(engine, schema)
    assert current(engine, schema) == schema.head
    engine.dispose()
    keys = after.pop("feedback_outbox_keys")
    assert sorted(row["last_sequence"] for row in keys) == [LIFT, LIFT + 1]
    assert after == {name: rows for name, rows in before.items() if name != "feedback_outbox_keys"}
    with pytest.raises(BackupError, match="has tables already"):
        restore_database("feedback", dump, source.url(own + OWNER), "1" * 32)
    with pytest.raises(BackupError, match="of another database"):
        restore_database("feedback", dump, f"sqlite:///{tmp_path}/x.sqlite", "1" * 32)


def test_places_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "places.json"
    for content in ("{}", "no", json.dumps({"databases": {}, "pictures": "", "releases": "", "lake": "", "kafka": ""})):
        file.write_text(content)
        with pytest.raises(BackupError, match=r"places\.json"):
            Places.of_file(file)
    of = places_in(tmp_path)
    file.write_text(json.dumps({**of.__dict__, "databases": dict(of.databases)}))
    assert Places.of_file(file) == of


def test_a_drill_passes_only_where_everything_is_as_it_was_told() -> None:
    right = {"wrong": {}, "collect names the new Kafka": True, "picks not once in the lake": 0}
    assert _is_right(right, 6)
    for change in ({"wrong": {"lost: NOT_FOUND": 1}}, {"collect names the new Kafka": False}, {"events twice": 1}):
        assert not _is_right(right | change, 6)
    assert not _is_right(right, 0)
