"""The limit on rounds that run at once. It does not know what a round is."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.runtime.errors import ResourceExhausted


@dataclass
class Places:
    """Rounds have a limit of their own, so that clients of a full service can still look at groups and pick."""

    limit: int
    used: int = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """One place while inside; ResourceExhausted when there is none."""
        if self.used >= self.limit:
            raise ResourceExhausted(f"more than {self.limit} rounds in flight")
        self.used += 1
        try:
            yield
        finally:
            self.used -= 1
