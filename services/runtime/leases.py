"""Leases without a calendar: whether the holder of a claim has gone is judged by watching, on one's own clock.

A holder counts beats in its claim's row. A process that wants the claim takes it over when it has itself seen the row
unchanged for a whole lease, by its monotonic clock. No two machines' clocks are compared, and a clock that is set back
or forward decides nothing. A holder that was only slow is fenced off: its writes ask for its token, which is gone.
"""

import time
from collections.abc import Callable, Container, Hashable


class Watch:
    """What one process has seen of others' claims, by the claims' names; it forgets what `keep` does not name."""

    def __init__(self, lease_s: float, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._lease_s = lease_s
        self._monotonic_s = monotonic_s
        self._seen: dict[str, tuple[Hashable, float]] = {}  # a claim's last state, and when it was first seen so

    def has_expired(self, name: str, state: Hashable) -> bool:
        """Whether the claim has been in this state (token and beats) for a lease, as far as this process knows."""
        seen, since_s = self._seen.get(name, (None, 0.0))
        if seen != state:
            self._seen[name] = (state, self._monotonic_s())
            return False
        return self._monotonic_s() - since_s >= self._lease_s

    def keep(self, names: Container[str]) -> None:
        """Forgets all other claims: they have ended."""
        self._seen = {name: seen for name, seen in self._seen.items() if name in names}
