"""A claim counts as given up when it has not moved for a lease on the watcher's own clock, and for no other reason."""

from services.runtime.leases import Watch


class Elapsed:
    """A monotonic clock that moves when it is told to."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


def test_a_claim_that_does_not_move_expires_after_a_lease_of_watching() -> None:
    elapsed = Elapsed()
    watch = Watch(10.0, elapsed)
    assert not watch.has_expired("a", ("token", 3))
    elapsed.s += 9.9
    assert not watch.has_expired("a", ("token", 3))
    elapsed.s += 0.1
    assert watch.has_expired("a", ("token", 3))


def test_each_beat_begins_the_lease_anew_and_so_does_another_holder() -> None:
    elapsed = Elapsed()
    watch = Watch(10.0, elapsed)
    for state in [("token", 3), ("token", 4), ("other", 4)]:
        assert not watch.has_expired("a", state)
        elapsed.s += 8.0
        assert not watch.has_expired("a", state)


def test_claims_are_watched_apart_and_forgotten_when_they_end() -> None:
    elapsed = Elapsed()
    watch = Watch(10.0, elapsed)
    watch.has_expired("a", 1), watch.has_expired("b", 1)
    elapsed.s += 10.0
    watch.keep({"a"})
    assert watch.has_expired("a", 1)
    assert not watch.has_expired("b", 1)  # seen for the first time again
