"""A set of ids that is small, and never forgets one."""

from training.retraining.seen import Seen


def test_it_holds_what_was_added_in_whatever_portions() -> None:
    seen = Seen(f"first {n}" for n in range(1000))
    for start in range(0, 150_000, 50_000):
        seen.add(f"id {n}" for n in range(start, start + 50_000))
    seen.add(["id 7", "first 7", "new"])
    assert len(seen) == 151_001
    assert all(f"first {n}" in seen for n in range(1000)) and "new" in seen
    assert all(f"id {n}" in seen for n in range(0, 150_000, 1000))
    assert not any(f"other {n}" in seen for n in range(1000))
