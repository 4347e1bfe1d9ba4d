"""Revisions for tests of the mechanism: files of a folder, as a service has them."""

from pathlib import Path
from textwrap import indent

from sqlalchemy import MetaData

from services.runtime.migrations import Schema

NOTHING = "pass"


def add_revision(folder: Path, number: int, up: str, down: str = NOTHING) -> None:
    """Writes the revision after `number` - 1; `up` and `down` are statements with `op` and `sa`."""
    folder.mkdir(parents=True, exist_ok=True)
    before = f'"{number - 1:04}"' if number > 1 else "None"
    (folder / f"r{number:04}_test.py").write_text(
        f'import sqlalchemy as sa\nfrom alembic import op\n\nrevision = "{number:04}"\ndown_revision = {before}\n\n'
        f"def upgrade():\n{indent(up, '    ')}\n\ndef downgrade():\n{indent(down, '    ')}\n"
    )


def schema_of(metadata: MetaData, folder: Path) -> Schema:
    """The schema of a service called "test"."""
    return Schema("test", metadata, folder)
