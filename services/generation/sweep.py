"""Sweeps the object store once, by the generation service's settings: wiring only.

python -m services.generation.sweep [--dry-run] [--force]

The service does the same by itself, every PERFUSION_SWEEP_INTERVAL_S. `--dry-run` only counts; `--force` removes
pictures of no group also where they are most of what is there.
"""

import argparse
import asyncio
import sys

from services.generation.adapters.pictures import FsspecPictures
from services.generation.adapters.references import SqlReferences
from services.generation.adapters.tables import SCHEMA
from services.generation.settings import Settings
from services.generation.sweeping import Sweeper, Swept
from services.runtime.database import Database
from services.runtime.errors import Unavailable
from services.runtime.settings import load


async def sweep(settings: Settings, *, dry_run: bool, force: bool) -> Swept:
    """One sweep of the store that the settings name."""
    database = Database(settings.database_url, SCHEMA, timeout_s=settings.database_timeout_s, migrate=False)
    pictures = FsspecPictures(settings.object_store_url, timeout_s=settings.object_store_timeout_s)
    sweeper = Sweeper(pictures, SqlReferences(database), settings.sweep_grace_s)
    try:
        return await sweeper.sweep(dry_run=dry_run, force=force)
    finally:
        await pictures.close()
        await database.close()


def main(arguments: list[str] | None = None) -> str:
    """Returns what was found and removed; exits with the reason when pictures were left for being too many."""
    purpose = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m services.generation.sweep", description=purpose)
    parser.add_argument("--dry-run", action="store_true", help="count what would go, and leave it")
    parser.add_argument("--force", action="store_true", help="however many pictures belong to no group")
    chosen = parser.parse_args(arguments)
    try:
        swept = asyncio.run(sweep(load(Settings), dry_run=chosen.dry_run, force=chosen.force))
    except Unavailable as error:
        sys.exit(str(error))
    said = (
        f"{swept.referenced} pictures of groups, {swept.unreferenced} old pictures of no group, "
        f"{swept.scratch} old scratch files; deleted {swept.deleted}"
    )
    if swept.is_suspicious:
        sys.exit(f"{said}\nMost pictures belong to no group: is this the store of this database? --force removes them.")
    return said


if __name__ == "__main__":
    print(main())
