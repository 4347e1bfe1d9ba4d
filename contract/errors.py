"""What is refused because something given is not as it must be.

    InputError
    ├── FeatureError      a feature schema that cannot be used
    ├── VocabularyError   phrases that cannot be used
    ├── ManifestError     a release's files that cannot be used
    └── LockedError       a repository that another process works on (contract.repository)

The training half adds its own below the same base.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InputError(ValueError):
    """Base of all; the message names the file, field or value, and what is wrong with it."""


class FeatureError(InputError):
    """A feature schema that cannot be used."""


class VocabularyError(InputError):
    """Phrases that cannot be used; says which entry and why."""


class ManifestError(InputError):
    """A release's files that cannot be used; says which and why."""


@contextmanager
def reading(path: Path, error: type[InputError]) -> Iterator[None]:
    """What goes wrong while this file is read becomes one line that names it."""
    try:
        yield
    except InputError as wrong:
        raise type(wrong)(f"{path}: {wrong}") from wrong
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as broken:
        why = next(iter(str(broken).splitlines()), "") or type(broken).__name__
        raise error(f"{path} cannot be read: {why}") from broken
