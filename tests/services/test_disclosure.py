"""What is written down of a merchant: every row that is theirs, in every service, their pictures, and nobody else's."""

import asyncio
import json
from pathlib import Path

import pytest

from services.disclosure import main
from services.generation.adapters.pictures import FsspecPictures
from services.generation.adapters.tables import SCHEMA, candidates
from services.generation.pictures import name_in
from services.migrations import SERVICES
from tests.services.test_erasure import GONE as THEIRS
from tests.services.test_erasure import NOBODYS, filled, url  # noqa: F401 - a fixture
from tests.services.test_migrations import read, value_for

BUYERS = {"order_recipients"}  # buyers' own, and no merchant's to take along


@pytest.mark.parametrize("service", SERVICES)
def test_every_table_gives_the_merchants_rows_and_no_others(service: str, url: str, tmp_path: Path) -> None:  # noqa: F811
    schema = SERVICES[service][0]
    engine = filled(url, schema)
    before = read(engine, schema)
    done = json.loads(main(["--service", service, "--user", THEIRS, "--out", str(tmp_path / "out")]))
    assert done["rows"] == dict.fromkeys(before.keys() - NOBODYS - BUYERS, 1)
    text = (tmp_path / "out" / f"{service}.json").read_text()
    written = json.loads(text)
    assert written["user_id"] == THEIRS and "store-2" not in text
    for name, [row] in written["tables"].items():
        assert row.keys() == before[name][0].keys()
        assert all(row[column] == value for column, value in before[name][0].items() if not isinstance(value, bytes))
    assert read(engine, schema) == before
    engine.dispose()


def test_pictures_come_along_and_lost_ones_are_named(url: str, tmp_path: Path) -> None:  # noqa: F811
    pictures = FsspecPictures(f"file://{tmp_path}/objects", timeout_s=20)
    uris = {n: asyncio.run(pictures.put(f"picture {n}".encode())) for n in (1, 2, 3)}
    engine = filled(url, SCHEMA)
    with engine.begin() as connection:
        for rank, (group, uri) in enumerate([(1, uris[1]), (1, uris[2]), (2, uris[3])], start=3):
            values = {c.name: value_for(c.type, c.name, group) for c in candidates.columns}
            connection.execute(candidates.insert().values(values | {"rank": rank, "uri": uri, "image_id": f"p{rank}"}))
    Path(uris[2].removeprefix("file://")).unlink()
    done = json.loads(main(["--service", "generation", "--user", THEIRS, "--out", str(tmp_path / "out")]))
    assert uris[2] in done["lost_pictures"] and uris[1] not in done["lost_pictures"]
    [kept] = (tmp_path / "out" / "pictures").iterdir()
    assert (kept.name, kept.read_bytes()) == (name_in(uris[1]).replace("/", "-"), b"picture 1")
    engine.dispose()
    asyncio.run(pictures.close())


def test_a_database_without_its_tables_is_refused(url: str, tmp_path: Path) -> None:  # noqa: F811
    with pytest.raises(SystemExit, match="feedback: "):
        main(["--service", "feedback", "--user", THEIRS, "--out", str(tmp_path)])
