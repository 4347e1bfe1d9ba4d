"""Where the parts of a platform keep what must not be lost."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from contract.errors import InputError
from deploy.local.authority import Authority
from deploy.local.kafka_broker import COLLECTOR
from deploy.local.layout import Layout
from services.migrations import SERVICES


class BackupError(InputError):
    """A back-up or a restore cannot go on; the message says what to do."""


@dataclass(frozen=True)
class Places:
    """Of one platform."""

    databases: Mapping[str, str]  # SQLAlchemy's URL by service
    pictures: str  # folder or s3://…, as PERFUSION_OBJECT_STORE_URL without file://
    releases: str  # a model repository, or a store of releases
    lake: str
    kafka: str  # HOST:PORT, by commas
    kafka_certificates: str = ""  # of collect

    @classmethod
    def of_layout(cls, layout: Layout, lake: Path) -> "Places":
        """On one machine."""
        return cls(
            databases={name: f"sqlite:///{layout.home / f'{name}.sqlite'}" for name in SERVICES},
            pictures=str(layout.home / "objects"),
            releases=str(layout.model_repository),
            lake=str(lake),
            kafka=layout.address("kafka"),
            kafka_certificates=str(Authority(layout.home).folder(COLLECTOR)),
        )

    @classmethod
    def of_file(cls, file: Path) -> "Places":
        """From JSON with these fields: passwords of databases are in a file, and in no argument.

        Raises:
            BackupError: it is none, lacks a field or has another.
        """
        try:
            found = json.loads(file.read_text())
            places = cls(**found)
        except (OSError, ValueError, TypeError) as error:
            names = ", ".join(each.name for each in fields(cls))
            raise BackupError(f"{file} must be JSON with {names}: {error}") from error
        if set(places.databases) != set(SERVICES):
            raise BackupError(f"{file}: databases must be those of {', '.join(SERVICES)}")
        return places
