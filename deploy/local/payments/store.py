"""The bank's books in an SQLite file: what is written down there outlives a process that is killed.

It knows nothing of payments. Writes of one `transaction` are there together, or not at all.
"""

import sqlite3
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import TypeAdapter

from deploy.local.payments.books import Answer, Books, Entry, Post

_T = TypeVar("_T")


class Shelf(MutableMapping[str, _T], Generic[_T]):
    """One kind of dataclass, by key, each as JSON in a row."""

    def __init__(self, connection: sqlite3.Connection, name: str, kind: type[_T]) -> None:
        self._connection, self._name, self._form = connection, name, TypeAdapter(kind)
        connection.execute(f"CREATE TABLE IF NOT EXISTS {name} (key TEXT PRIMARY KEY, value TEXT NOT NULL)")

    def __getitem__(self, key: str) -> _T:
        row = self._connection.execute(f"SELECT value FROM {self._name} WHERE key = ?", (key,)).fetchone()
        if row is None:
            raise KeyError(key)
        return self._form.validate_json(row[0])

    def __setitem__(self, key: str, value: _T) -> None:
        text = self._form.dump_json(value).decode()
        written = f"INSERT INTO {self._name} VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value"
        self._connection.execute(written, (key, text))

    def __delitem__(self, key: str) -> None:
        if self._connection.execute(f"DELETE FROM {self._name} WHERE key = ?", (key,)).rowcount == 0:
            raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        return iter([row[0] for row in self._connection.execute(f"SELECT key FROM {self._name} ORDER BY rowid")])

    def __len__(self) -> int:
        return int(self._connection.execute(f"SELECT count(*) FROM {self._name}").fetchone()[0])


class Store:
    """The file, which is made where it is missing."""

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(file, isolation_level=None)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = OFF")  # a killed process loses nothing; a power cut may
        self.books = Books(
            Shelf(self._connection, "entries", Entry),
            Shelf(self._connection, "answers", Answer),
            Shelf(self._connection, "posts", Post),
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Its writes are kept also where it raises: a refusal is remembered."""
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            self._connection.execute("COMMIT")

    def close(self) -> None:
        self._connection.close()
