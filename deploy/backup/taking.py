"""Takes a back-up while the platform serves. The order of the steps makes it consistent:

1. databases of those who refer to others before those they refer to: a pick's group, an item's picture and a page's
   round are stored before they are referred to, so the later copy has them;
2. `collect --once`: an event leaves a database's outbox when Kafka has acknowledged it, so what the copies no longer
   owe is in Kafka by now, and in the lake after this step. Each event of before the point is owed in a copy, or in the
   lake, or both, which its event-id makes one again;
3. the lake, each table at one version, with Kafka's offsets in it;
4. pictures: stored before the group that names them, and removed only when none does;
5. releases: never changed, and there before a group names one; what serves is copied first.

So nothing that was acknowledged before the point is missing, and what is in it from later does no harm. The histories
of user_embedding are a view of the picks in Kafka; they are copied after step 2, and may lack some seconds of picks.
"""

import os
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from deploy.backup import databases, tables
from deploy.backup.files import fetch, listed
from deploy.backup.places import BackupError, Places
from deploy.backup.record import Record, digest, now
from deploy.local.layout import ROOT, clean_environment, venv
from services.generation.pictures import is_object_name, name_in
from training.retraining.lake import Lake

REFERRING_FIRST = ("studio", "feedback", "items", "generation")
AFTER_COLLECTING = ("user_embedding",)
MAY_BE_ABSENT = ("studio",)  # a platform can do without it
STATE_OF_RELEASES = ("current", "fallback", "rollout.json", "history.jsonl")
Say = Callable[[str], None]


def take(places: Places, folder: Path, say: Say, feature_schema: Path | None = None) -> Record:
    """The whole; goes on where an earlier call was interrupted, and does nothing where that is complete.

    Args:
        folder: of the back-up.
        feature_schema: for a lake that has none yet.

    Raises:
        BackupError: a part cannot be copied.
    """
    record = Record.read(folder) or Record()
    if record.complete:
        say(f"{folder} is complete since {record.complete}; a new back-up goes into a new folder")
        return record
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # it holds what merchants said, and pictures of theirs
    record.write(folder)
    steps: dict[str, Callable[[], dict[str, Any]]] = {
        **{name: partial(_database, name, places, folder, record) for name in REFERRING_FIRST},
        "collect": partial(_collect, places, feature_schema),
        "lake": partial(_lake, places, folder, record),
        **{name: partial(_database, name, places, folder, record) for name in AFTER_COLLECTING},
        "pictures": partial(_pictures, places, folder, record),
        "releases": partial(_releases, places, folder, record),
    }
    for name, step in steps.items():
        if name not in record.steps:
            say(f"{name} …")
            record.steps[name] = {**step(), "ended": now()}
            record.write(folder)
    record.complete = now()
    record.write(folder)
    return record


def _database(service: str, places: Places, folder: Path, record: Record) -> dict[str, Any]:
    url = places.databases[service]
    if service in MAY_BE_ABSENT and not databases.has_tables(service, url):
        return {"absent": True}
    name = f"databases/{databases.file_of(service, url)}"
    said = databases.take(service, url, folder / name)
    record.files[name] = digest(folder / name)
    return said


def _collect(places: Places, feature_schema: Path | None) -> dict[str, Any]:
    """What Kafka has now goes into the lake; another collector may run beside it."""
    path = os.pathsep.join(str(ROOT / part) for part in ("", "protos/gen"))
    command = [str(venv("") / "bin" / "python"), "-m", "training.retraining.collect", "--once"]
    command += ["--kafka", places.kafka, "--lake", places.lake]
    command += ["--kafka-certificates", places.kafka_certificates] if places.kafka_certificates else []
    command += ["--feature-schema", str(feature_schema)] if feature_schema else []
    done = subprocess.run(
        command, cwd=ROOT, env=clean_environment() | {"PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BackupError(f"collect: {(done.stderr or done.stdout).strip()[-2000:]}")
    return {}


def _lake(places: Places, folder: Path, record: Record) -> dict[str, Any]:
    versions, files = tables.take(Lake(places.lake), folder / "lake")
    record.files |= {f"lake/{path}": of for path, of in files.items()}
    return {"versions": versions}


def _pictures(places: Places, folder: Path, record: Record) -> dict[str, Any]:
    found = listed(places.pictures, is_object_name)
    files = fetch(places.pictures, found, folder / "pictures", reuse=lambda path: True)
    record.files |= {f"pictures/{path}": of for path, of in files.items()}
    [copy] = (each for each in record.files if each.startswith("databases/generation."))
    if not copy.endswith(".sqlite"):
        return {"pictures": len(files)}
    named = {name_in(uri) for uri in databases.pictures_of(f"sqlite:///{folder / copy}")}
    return {"pictures": len(files), "lost": len(named - files.keys())}  # those that the store itself has not


def _releases(places: Places, folder: Path, record: Record) -> dict[str, Any]:
    """What serves first: it may name a release that is new, and all of that is there by then."""
    changing = {f"releases/{name}" for name in STATE_OF_RELEASES}
    first = listed(places.releases, lambda path: path in changing)
    files = fetch(places.releases, first, folder / "releases", reuse=lambda path: False)
    rest = listed(places.releases, lambda path: path not in changing)
    files |= fetch(places.releases, rest, folder / "releases", reuse=lambda path: path.endswith((".onnx", ".plan")))
    record.files |= {f"releases/{path}": of for path, of in files.items()}
    return {"files": len(files)}
