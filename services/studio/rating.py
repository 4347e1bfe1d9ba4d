"""Studies in which experts rate pictures blindly, on the studio's page.

    python -m services.studio.rating load FOLDER       design.json and its pictures; prints a personal link a rater
    python -m services.studio.rating progress STUDY    how many tasks each rater has answered
    python -m services.studio.rating renew STUDY RATER another link for a rater; the one before opens nothing any more
    python -m services.studio.rating close STUDY       takes no answers from now on
    python -m services.studio.rating export STUDY      the answers, as ratings.jsonl
    python -m services.studio.rating delete STUDY      the study with its pictures, raters and answers

It reads the studio's own settings (PERFUSION_DATABASE_URL, PERFUSION_PUBLIC_URL); the studio may run on. STUDY is the
design_id. A folder that holds key.json is refused. A link is printed once: the database has only its hash.
docs/measuring.md says how a study is run.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from services.runtime.clock import now_us
from services.runtime.database import Database
from services.runtime.errors import ServiceError
from services.runtime.settings import load
from services.studio.adapters.studies import SqlStudies
from services.studio.adapters.tables import SCHEMA
from services.studio.ports import Studies
from services.studio.settings import Settings
from services.studio.studies import DesignRefused, key_of, new_token, read_design


async def _load(studies: Studies, public_url: str, folder: Path) -> list[str]:
    loaded = await asyncio.to_thread(read_design, folder)
    tokens = {rater.rater_id: new_token() for rater in loaded.design.raters}
    await studies.load(loaded, {rater_id: key_of(token) for rater_id, token in tokens.items()})
    said = f"study {loaded.design.design_id}, {len(loaded.pictures)} pictures, design SHA-256 {loaded.sha256}"
    return [said, *(f"{rater_id}\t{public_url}/rate/{token}" for rater_id, token in tokens.items())]


async def _renew(studies: Studies, public_url: str, study_id: str, rater_id: str) -> list[str]:
    token = new_token()
    await studies.renew(study_id, rater_id, key_of(token))
    return [f"{rater_id}\t{public_url}/rate/{token}"]


async def _done(studies: Studies, chosen: argparse.Namespace, public_url: str) -> list[str]:
    match chosen.command:
        case "load":
            return await _load(studies, public_url, chosen.folder)
        case "renew":
            return await _renew(studies, public_url, chosen.study, chosen.rater)
        case "close":
            await studies.close(chosen.study)
            return [f"study {chosen.study} is closed"]
        case "export":
            return [json.dumps(line, ensure_ascii=False) for line in await studies.lines(chosen.study)]
        case "delete":
            return [json.dumps(dict(await studies.delete(chosen.study)))]
        case _:
            found = await studies.progress(chosen.study)
            return [f"{rater_id}\t{answered} of {of}" for rater_id, (answered, of) in found.items()]


async def _run(chosen: argparse.Namespace) -> list[str]:
    settings = load(Settings)
    database = Database(
        settings.database_url, SCHEMA, timeout_s=settings.database_timeout_s, migrate=settings.database_migrate
    )
    try:
        return await _done(SqlStudies(database, now_us), chosen, settings.public_url)
    finally:
        await database.close()


def main(arguments: list[str] | None = None) -> Iterator[str]:
    """Does what the arguments say. Returns lines on it; exits with the reason when it cannot."""
    parser = argparse.ArgumentParser(
        prog="python -m services.studio.rating", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("load").add_argument("folder", type=Path, help="with design.json, and without key.json")
    for name in ("progress", "renew", "close", "export", "delete"):
        commands.add_parser(name).add_argument("study", help="the design_id")
    commands.choices["renew"].add_argument("rater", help="the rater_id")
    chosen = parser.parse_args(arguments)
    try:
        return iter(asyncio.run(_run(chosen)))
    except (DesignRefused, ServiceError, SQLAlchemyError) as error:
        sys.exit(f"{chosen.command}: {error}")


if __name__ == "__main__":
    for line in main():
        print(line)
