"""The limits on Generate calls: rounds that are worked on, and calls that wait for another call's round.

It does not know what a round is. Other methods have places of their own, so that clients of a full service can still
look at groups and pick.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from services.runtime.errors import ResourceExhausted


@dataclass
class Places:
    """So many of one kind; `what` names them in the error."""

    limit: int
    what: str
    used: int = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """One place while inside; ResourceExhausted when there is none."""
        if self.used >= self.limit:
            raise ResourceExhausted(f"more than {self.limit} {self.what}")
        self.used += 1
        try:
            yield
        finally:
            self.used -= 1
