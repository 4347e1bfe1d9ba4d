"""Brings a service's database to its schema, or back.

python -m services.migrations upgrade|downgrade|current|check --service generation

It reads the service's own settings (PERFUSION_DATABASE_URL). `current` names the database's revision and the newest;
`check` fails when the database is not at the newest revision or differs from the service's tables.
"""

import argparse
import sys

from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from services.feedback.adapters import tables as feedback
from services.feedback.settings import Settings as Feedback
from services.generation.adapters import tables as generation
from services.generation.settings import Settings as Generation
from services.items.adapters import tables as items
from services.items.settings import Settings as Items
from services.runtime import migrations
from services.runtime.database import open_engine
from services.runtime.errors import Unavailable
from services.runtime.migrations import Schema
from services.runtime.settings import DatabaseSettings, load
from services.studio.adapters import tables as studio
from services.studio.settings import Settings as Studio
from services.user_embedding.adapters import tables as user_embedding
from services.user_embedding.settings import Settings as UserEmbedding

SERVICES: dict[str, tuple[Schema, type[DatabaseSettings]]] = {
    "user_embedding": (user_embedding.SCHEMA, UserEmbedding),
    "generation": (generation.SCHEMA, Generation),
    "feedback": (feedback.SCHEMA, Feedback),
    "items": (items.SCHEMA, Items),
    "studio": (studio.SCHEMA, Studio),
}


def main(arguments: list[str] | None = None) -> str:
    """Does what the arguments say. Returns a line on the result; exits with the reason when it cannot."""
    purpose = (__doc__ or "").partition("\n")[0]
    parser = argparse.ArgumentParser(prog="python -m services.migrations", description=purpose)
    parser.add_argument("command", choices=("upgrade", "downgrade", "current", "check"))
    parser.add_argument("--service", choices=tuple(SERVICES), required=True)
    parser.add_argument("--to", metavar="REVISION", help='of a downgrade; "base" drops the tables')
    chosen = parser.parse_args(arguments)
    if (chosen.command == "downgrade") != (chosen.to is not None):
        parser.error("--to belongs to downgrade, which needs it")
    schema, settings_class = SERVICES[chosen.service]
    settings = load(settings_class)
    engine = open_engine(settings.database_url, settings.database_timeout_s)
    try:
        match chosen.command:
            case "upgrade":
                migrations.upgrade(engine, schema)
            case "downgrade":
                migrations.downgrade(engine, schema, chosen.to)
            case "check":
                migrations.require_head(engine, schema)
                if differences := migrations.differences(engine, schema):
                    sys.exit("\n".join(["the database differs from the service's tables:", *map(str, differences)]))
        revision = migrations.current(engine, schema)
    except (Unavailable, CommandError, SQLAlchemyError) as error:
        sys.exit(f"{chosen.service}: {error}")
    finally:
        engine.dispose()
    return f"{chosen.service}: {revision or 'no revision'}, newest {schema.head}"


if __name__ == "__main__":
    print(main())
