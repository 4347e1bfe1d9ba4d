"""A sweep removes what no group refers to once it is old, and nothing else, on a real store and a real database."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy import insert

from services.generation.adapters.pictures import FsspecPictures
from services.generation.adapters.references import SqlReferences
from services.generation.adapters.tables import SCHEMA, candidates, groups, rounds
from services.generation.pictures import NAME_CHARACTERS, SCRATCH, Loss, object_name
from services.generation.sweep import main
from services.generation.sweeping import Sweeper, Swept
from services.runtime.database import Database

HOUR_S = 3600.0
PICTURES = [f"picture {n}".encode() for n in range(6)]


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Everything here holds in both databases."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/generation.sqlite"
    return str(request.getfixturevalue("postgres").new_database())


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    database = Database(database_url, SCHEMA, timeout_s=10)
    yield database
    await database.close()


@pytest_asyncio.fixture
async def pictures(tmp_path: Path) -> AsyncIterator[FsspecPictures]:
    store = FsspecPictures(f"file://{tmp_path}/objects", timeout_s=10)
    yield store
    await store.close()


@pytest.fixture
def sweeper(pictures: FsspecPictures, database: Database) -> Sweeper:
    return Sweeper(pictures, SqlReferences(database), HOUR_S)


async def refer_to(database: Database, *uris: str) -> None:
    """Stores a group with these pictures."""
    group_id, request_id = str(uuid4()), str(uuid4())
    round_ = {"request_id": request_id, "fingerprint": "f", "group_id": group_id, "release": 1, "state": "done"}
    group = {"group_id": group_id, "request_id": request_id, "user_id": group_id, "prompt": "p", "negative_prompt": ""}
    group |= {"release": 1, "create_time_us": 1, "num_steps": 1, "guidance_scale": 1.0, "adapter_scale": 1.0}
    group |= {"sampler": "ddim", "seed": 1, "reference_image_sha256": "", "refused_wishes": [], "sequence": 1}
    candidate = {"group_id": group_id, "seed": 1, "score": 1.0, "wishes": []}
    async with database.transaction() as connection:
        await connection.execute(insert(rounds).values(round_ | {"owner": "", "beats": 0}))
        await connection.execute(insert(groups).values(group))
        for rank, uri in enumerate(uris):
            row = candidate | {"rank": rank, "uri": uri, "image_id": str(uuid4())}
            await connection.execute(insert(candidates).values(row))


def age(*paths: Path) -> None:
    """As if written long ago."""
    for path in paths:
        os.utime(path, (1, 1))


def file_of(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


async def test_pictures_of_groups_stay_in_a_store_that_was_moved(
    sweeper: Sweeper, pictures: FsspecPictures, database: Database, tmp_path: Path
) -> None:
    kept, orphan = [await pictures.put(png) for png in PICTURES[:2]]
    await refer_to(database, kept)
    moved = FsspecPictures(f"file://{tmp_path}/elsewhere", timeout_s=10)
    (tmp_path / "elsewhere").rmdir()
    (tmp_path / "objects").rename(tmp_path / "elsewhere")
    age(*(file_of(uri.replace("objects", "elsewhere")) for uri in (kept, orphan)))
    new = await moved.put(PICTURES[2])
    await refer_to(database, new)
    assert {len(object_name(png)) for png in PICTURES} == {NAME_CHARACTERS}
    assert await Sweeper(moved, sweeper.references, HOUR_S).sweep() == Swept(2, 1, 0, 1, False)
    assert [await moved.get(uri) for uri in (kept, orphan, new)] == [PICTURES[0], Loss.MISSING, PICTURES[2]]
    await moved.close()


async def test_only_old_pictures_of_no_group_go(sweeper: Sweeper, pictures: FsspecPictures, database: Database) -> None:
    shared, own, old_orphan, young_orphan, *_ = [await pictures.put(png) for png in PICTURES[:4]]
    await refer_to(database, shared, own)
    age(*map(file_of, (shared, own, old_orphan)))
    expected = Swept(referenced=2, unreferenced=1, scratch=0, deleted=0, is_suspicious=False)
    assert await sweeper.sweep(dry_run=True) == expected
    assert file_of(old_orphan).exists()
    assert (await sweeper.sweep()).deleted == 1
    assert [file_of(uri).exists() for uri in (shared, own, old_orphan, young_orphan)] == [True, True, False, True]
    assert (await sweeper.sweep()).deleted == 0


async def test_a_failed_rounds_picture_that_is_made_again_stays(
    sweeper: Sweeper, pictures: FsspecPictures, database: Database
) -> None:
    await refer_to(database, await pictures.put(PICTURES[0]))
    orphan = await pictures.put(PICTURES[1])
    age(file_of(orphan))
    await pictures.put(PICTURES[1])  # by another round, whose group is not stored yet
    assert (await sweeper.sweep()).deleted == 0


async def test_old_scratch_goes_and_what_is_not_ours_stays(
    sweeper: Sweeper, pictures: FsspecPictures, database: Database, tmp_path: Path
) -> None:
    uri = await pictures.put(PICTURES[0])
    await refer_to(database, uri)
    folder = tmp_path / "objects"
    scratch = [folder / SCRATCH / uuid4().hex, folder / SCRATCH / "probe-1", Path(f"{file_of(uri)}.{uuid4().hex}")]
    foreign = [folder / "README", file_of(uri).parent / "notes.png", folder / "backup" / object_name(PICTURES[1])]
    foreign.append(file_of(uri).parent / object_name(PICTURES[2]).replace("/", "_"))
    for path in (*scratch, *foreign):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half a picture")
    young = folder / SCRATCH / uuid4().hex
    young.write_bytes(b"")
    age(*scratch, *foreign, file_of(uri))
    assert (await sweeper.sweep()).deleted == len(scratch)
    assert not any(path.exists() for path in scratch)
    assert all(path.exists() for path in (*foreign, young, file_of(uri)))


@pytest.mark.parametrize("groups_pictures", [0, 1])
async def test_pictures_stay_where_most_belong_to_no_group(
    sweeper: Sweeper,
    pictures: FsspecPictures,
    database: Database,
    groups_pictures: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with an empty database, or another's."""
    monkeypatch.setattr("services.generation.sweeping._SLACK", 0)
    uris = [await pictures.put(png) for png in PICTURES]
    if groups_pictures:
        await refer_to(database, *uris[:groups_pictures])
    age(*map(file_of, uris))
    swept = await sweeper.sweep()
    assert swept.is_suspicious and swept.deleted == 0
    assert all(file_of(uri).exists() for uri in uris)
    assert (await sweeper.sweep(force=True)).deleted == len(PICTURES) - groups_pictures


async def test_sweeps_at_once_beside_rounds_lose_nothing(
    sweeper: Sweeper, pictures: FsspecPictures, database: Database
) -> None:
    """Rounds make again, at any moment, the very pictures that sweeps find old and without a group."""
    await refer_to(database, await pictures.put(PICTURES[0]))
    for _ in range(5):
        uris = [await pictures.put(png) for png in PICTURES[1:]]
        age(*map(file_of, uris))
        again = asyncio.gather(*(pictures.put(png) for png in PICTURES[1:]))
        await asyncio.gather(sweeper.sweep(), sweeper.sweep(), again)
        assert all([isinstance(await pictures.get(uri), bytes) for uri in uris])


async def test_the_command_sweeps_by_the_settings(
    pictures: FsspecPictures,
    database: Database,
    database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PERFUSION_DATABASE_URL", database_url)
    monkeypatch.setenv("PERFUSION_OBJECT_STORE_URL", f"file://{tmp_path}/objects")
    orphan = await pictures.put(PICTURES[0])
    age(file_of(orphan))
    await database.check()
    with pytest.raises(SystemExit, match="--force"):
        await asyncio.to_thread(main, [])
    assert file_of(orphan).exists()
    await refer_to(database, await pictures.put(PICTURES[1]))
    assert "1 old pictures of no group" in await asyncio.to_thread(main, ["--dry-run"])
    assert file_of(orphan).exists()
    assert re.search("1 pictures of groups.* deleted 1", await asyncio.to_thread(main, []))
    assert not file_of(orphan).exists()
