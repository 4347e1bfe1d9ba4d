"""Checks of the request fields that several services share, gathered so that one answer names every wrong field.

It knows the forms of fields, with the limits of contract/limits.py. It does not know a field's meaning, nor whether
the named object exists.
"""

import re

from contract import limits
from contract.prompts import phrases_of
from services.runtime.errors import InvalidArgument

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Fields:
    """Collects problems; `done` raises InvalidArgument with them, or returns when there are none."""

    def __init__(self) -> None:
        self._problems: list[tuple[str, str]] = []

    def refuse(self, field: str, problem: str) -> None:
        """Notes that a field, by its path in the request, is wrong."""
        self._problems.append((field, problem))

    def require(self, holds: bool, field: str, problem: str) -> None:
        """Notes a problem unless `holds`."""
        if not holds:
            self.refuse(field, problem)

    def text(self, value: str, field: str, most: int, least: int = 0) -> str:
        """So many characters, any but NUL, which PostgreSQL cannot store."""
        self.require(least <= len(value) <= most, field, f"must have {least} to {most} characters")
        self.require("\0" not in value, field, "must not contain NUL")
        return value

    def user_id(self, value: str, field: str = "user_id") -> str:
        """1 to 128 characters."""
        return self.text(value, field, limits.MAX_USER_ID_CHARS, least=1)

    def prompt(self, value: str, field: str = "prompt") -> str:
        """1 to 1000 characters with at least one phrase: not only separators, blanks, and what shows nothing."""
        if len(value) <= limits.MAX_PROMPT_CHARS:
            self.require(bool(phrases_of(value)), field, "must have at least one phrase")
        return self.text(value, field, limits.MAX_PROMPT_CHARS)

    def uuid(self, value: str, field: str) -> str:
        """A UUID in its usual hyphenated form; returned in lower case, so that equal ids are equal strings."""
        self.require(bool(_UUID.fullmatch(value)), field, "must be a UUID such as 123e4567-e89b-12d3-a456-426614174000")
        return value.lower()

    def release(self, value: int, field: str = "release") -> int:
        """0 is the release in service."""
        self.require(value >= 0, field, "must not be negative")
        return value

    def done(self) -> None:
        """Raises InvalidArgument if any field was wrong."""
        if self._problems:
            raise InvalidArgument(*self._problems)
