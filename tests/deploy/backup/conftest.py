"""A platform without processes: databases with rows, a lake that is collected, pictures, a repository."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

import fsspec
import pytest
from sqlalchemy import insert, select

from deploy.backup import taking
from deploy.backup.places import Places
from services.feedback.adapters import tables as feedback
from services.generation.adapters import tables as generation
from services.generation.adapters.pictures import FsspecPictures
from services.migrations import SERVICES
from services.runtime.database import open_engine
from services.runtime.migrations import upgrade
from tests.s3 import S3
from tests.services.conftest import postgres
from tests.services.test_migrations import value_for
from tests.training.retraining.events import group, pick
from tests.training.retraining.test_collecting import Collecting

__all__ = ["postgres"]
SCHEMA = Path("training/weights/tiny/feature_schema.json")
STAYS, GONE, LATER = "stays ☂", "gone ☂", "later ☂"


@dataclass
class Platform:
    """What `take` finds; `collecting` plays Kafka and its collector."""

    places: Places
    collecting: Collecting

    def round(self, name: str, user_id: str, *, picked: bool = True, collected: bool = True) -> None:
        """A group with a picture, and a pick in it, acknowledged by Kafka; what is not collected waits there."""
        store = self.places.pictures if "://" in self.places.pictures else f"file://{self.places.pictures}"

        async def draw() -> str:
            pictures = FsspecPictures(store, timeout_s=20)
            uri = await pictures.put(name.encode())
            await pictures.close()
            return uri

        made = group(name, user_id)
        given = pick(name, 0, user_id=user_id)
        uri, place = asyncio.run(draw()), len(self.collecting.log.records) + 1
        for table, columns in (
            (generation.rounds, {"request_id": made.request_id, "group_id": made.group_id}),
            (
                generation.groups,
                {
                    "group_id": made.group_id,
                    "user_id": user_id,
                    "request_id": made.request_id,
                    "sequence": place,
                },
            ),
            (generation.candidates, {"group_id": made.group_id, "uri": uri, "image_id": made.candidates[0].image_id}),
        ):
            self._add("generation", table, columns)
        if picked:
            named = {"group_id": made.group_id, "user_id": user_id, "request_id": given.request_id, "sequence": place}
            self._add("feedback", feedback.picks, named)
            engine = open_engine(self.places.databases["feedback"], 20)
            keys = feedback.OUTBOX.keys
            with engine.begin() as connection:
                if not connection.execute(select(keys).where(keys.c.key == user_id)).first():
                    connection.execute(insert(keys).values(key=user_id, last_sequence=1, holder="", beats=0))
            engine.dispose()
        self.collecting.log.put(made, *([given] if picked else []))
        if collected:
            self.collecting.collect()

    def _add(self, service: str, table: object, columns: dict[str, object]) -> None:
        engine = open_engine(self.places.databases[service], 20)
        values = {c.name: value_for(c.type, c.name, 1) for c in table.columns} | columns  # type: ignore[attr-defined]
        for unique in ("event_id",):
            if unique in values:
                values[unique] = columns["group_id"]
        with engine.begin() as connection:
            connection.execute(insert(table).values(values))  # type: ignore[arg-type]
        engine.dispose()


def places_in(folder: Path, store: str = "") -> Places:
    """Of a platform that lies in a folder, or whose files lie in a bucket."""
    files = store or str(folder)
    return Places(
        databases={name: f"sqlite:///{folder / f'{name}.sqlite'}" for name in SERVICES},
        pictures=f"{files}/objects",
        releases=f"{files}/models",
        lake=f"{files}/lake",
        kafka="127.0.0.1:1",
    )


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest) -> str:
    """Where files lie: beside the databases, or in a bucket."""
    if request.param == "folder":
        return ""
    server: S3 = request.getfixturevalue("s3")
    return server.new_bucket()


@pytest.fixture
def platform(tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch) -> Platform:
    """Two merchants have a group and a pick each; a release is live."""
    made = make(places_in(tmp_path / "platform", store))
    monkeypatch.setattr(taking, "_collect", lambda places, schema: made.collecting.collect() and {})
    return made


def make(places: Places) -> Platform:
    for service, url in places.databases.items():
        engine = open_engine(url, 20)
        upgrade(engine, SERVICES[service][0])
        engine.dispose()
    made = Platform(places, Collecting(places.lake))
    made.collecting.lake.set_feature_schema(SCHEMA)
    files, root = fsspec.core.url_to_fs(places.releases)
    files.makedirs(f"{root}/releases/1", exist_ok=True)
    files.makedirs(f"{root}/denoiser/1", exist_ok=True)
    for name, content in (
        ("releases/current", b"1\n"),
        ("releases/1/manifest.json", b"{}"),
        ("denoiser/1/model.onnx", b"m"),
    ):
        files.pipe_file(f"{root}/{name}", content)
    made.round("a", STAYS)
    made.round("b", GONE)
    return made
