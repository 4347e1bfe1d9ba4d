"""Who goes first at the denoiser: turns of merchants, small rounds, deadlines, whole steps, and the queue."""

import math
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.generation.scheduling import Job, Schedule, Step

RELEASE, TRIAL = 1, 2


def schedule(calls: int = 1, least: int = 8, most: int = 8, quantum: int = 40, rate: float = 100.0) -> Schedule:
    made = Schedule(calls, least, most, quantum)
    made.rate = rate
    return made


class Played:
    """Rounds whose every step is asked for at once, one call at a time; `ended` says after how many sample-steps."""

    def __init__(self, of: Schedule) -> None:
        self.schedule = of
        self.sample_steps = 0
        self.waiting: dict[Job, Step] = {}
        self.ended: dict[Job, int] = {}
        self.served: Counter[str] = Counter()

    def enter(self, merchant: str, rows: int, steps: int, ends_at: float = math.inf) -> Job:
        job = Job(merchant, rows * steps, rows, ends_at)
        self.schedule.enter(job)
        self._ask()
        return job

    def _ask(self) -> None:
        self.schedule.begin()
        for job in self.schedule._jobs:
            if job.has_begun and job not in self.waiting:
                self.waiting[job] = Step(job, RELEASE, job.rows)
                self.schedule.add(self.waiting[job])

    def call(self) -> bool:
        """One call, if there is anything to compute."""
        taken = self.schedule.take(1)
        for each in taken:
            job, rows = each.step.job, each.end - each.first
            self.sample_steps += rows
            self.served[job.merchant] += rows
            if not each.step.waiting:
                job.left -= each.step.rows
                del self.waiting[job]
                if not job.left:
                    self.ended[job] = self.sample_steps
                    self.schedule.leave(job)
        self._ask()
        return bool(taken)

    def until(self, is_over: Callable[[], bool]) -> "Played":
        while not is_over() and self.call():
            pass
        return self

    def to_the_end(self) -> "Played":
        return self.until(lambda: False)


def test_merchants_with_much_to_do_get_equal_shares_whatever_the_number_of_their_rounds() -> None:
    played = Played(schedule())
    for _ in range(9):
        played.enter("flood", 5, 40)
    for merchant in ("ada", "bob"):
        played.enter(merchant, 5, 120)
    played.until(lambda: played.sample_steps >= 1500)
    assert max(played.served.values()) - min(played.served.values()) <= 2 * (40 + 8), "two turns"


def test_a_small_round_goes_before_large_ones_that_have_had_their_turn() -> None:
    played = Played(schedule())
    for k in range(12):
        played.enter(f"large {k}", 16, 50)
    played.until(lambda: played.sample_steps >= 12 * 48)
    small, begun = played.enter("small", 5, 4), played.sample_steps
    played.until(lambda: small in played.ended)
    assert played.ended[small] - begun <= 2 * 20, "its own 20, and what fills its calls"


def test_a_small_round_goes_before_large_ones_that_came_with_it() -> None:
    played = Played(schedule(quantum=100))
    for k in range(12):
        played.enter(f"large {k}", 16, 50)
    small = played.enter("small", 5, 4)
    played.until(lambda: small in played.ended)
    assert played.ended[small] <= 2 * 20


def test_who_comes_back_again_and_again_with_small_rounds_does_not_starve_a_large_one() -> None:
    played = Played(schedule())
    large = played.enter("large", 8, 50)
    while large not in played.ended and played.sample_steps < 10_000:
        small = played.enter("small", 5, 4)
        played.until(lambda small=small: small in played.ended)  # type: ignore[misc]
    assert played.ended[large] <= 2 * 400 + 100


def test_who_has_spent_little_and_comes_back_is_still_new() -> None:
    played = Played(schedule(quantum=60))
    for k in range(12):
        played.enter(f"large {k}", 16, 50)
    played.until(lambda: played.sample_steps >= 12 * 64)
    waits = []
    for _ in range(4):
        begun, small = played.sample_steps, played.enter("small", 5, 4)
        played.until(lambda small=small: small in played.ended)  # type: ignore[misc]
        waits.append(played.ended[small] - begun)
    assert max(waits[:3]) <= 2 * 20 and waits[3] >= 300, "three rounds are its quantum"


@pytest.mark.parametrize(
    ("sample_steps", "ends_at", "has_time"),
    [
        pytest.param(10, 2.6, True, id="a small one needs 1 s, and the other gets as much meanwhile"),
        pytest.param(10, 2.4, False, id="the same without reserve"),
        pytest.param(190, 36.5, True, id="a larger one ends after the other, at 29 s"),
        pytest.param(190, 36.0, False, id="after the other, without reserve"),
        pytest.param(10**9, math.inf, True, id="it may take whatever time it likes"),
    ],
)
def test_there_is_time_for_a_round_that_is_done_in_its_merchants_share(
    sample_steps: int, ends_at: float, has_time: bool
) -> None:
    of = schedule(rate=10.0)
    of.enter(Job("ada", 100, 5, ends_at=1.0))
    assert of.has_time_for(Job("bob", sample_steps, 5, ends_at), 0.0) is has_time


def test_a_round_of_the_same_merchant_waits_for_those_before_it() -> None:
    of = schedule(rate=10.0)
    of.enter(Job("ada", 100, 5, ends_at=10.0))
    assert of.has_time_for(Job("ada", 10, 5, ends_at=14.0), 0.0)
    assert not of.has_time_for(Job("ada", 10, 5, ends_at=13.5), 0.0)


def test_before_the_speed_is_known_there_is_time() -> None:
    assert schedule(rate=math.inf).has_time_for(Job("bob", 10**9, 5, ends_at=1.0), 0.0)


def test_rows_of_two_releases_never_share_a_call() -> None:
    of = schedule(most=32)
    job = Job("ada", 100, 10)
    of.enter(job)
    for release in (RELEASE, TRIAL):
        of.add(Step(job, release, 5))
    first, second = of.take(1), of.take(1)
    assert [[each.step.shares for each in taken] for taken in (first, second)] == [[RELEASE], [TRIAL]]
    assert of.take(1) == []


def test_a_lone_round_keeps_all_calls_busy_where_rows_are_what_costs() -> None:
    of = schedule(calls=2, least=1)
    job = Job("ada", 100, 5)
    of.enter(job)
    step = Step(job, RELEASE, 5)
    of.add(step)
    assert [(each.first, each.end) for each in of.take(2)] == [(0, 3)]
    assert [(each.first, each.end) for each in of.take(1)] == [(3, 5)]
    of = schedule(calls=2, least=16, most=32)
    of.enter(job)
    of.add(Step(job, RELEASE, 5))
    assert [(each.first, each.end) for each in of.take(2)] == [(0, 5)], "where a call is what costs"


def test_a_call_is_filled_with_whole_steps() -> None:
    of = schedule(most=12)
    jobs = [Job(f"merchant {k}", 100, 5) for k in range(3)]
    for job in jobs:
        of.enter(job)
        of.add(Step(job, RELEASE, 5))
    assert [each.step.job for each in of.take(1)] == jobs[:2]
    assert [each.step.job for each in of.take(1)] == jobs[2:]


def test_a_step_larger_than_a_call_goes_into_several() -> None:
    of = schedule(most=8)
    job = Job("ada", 160, 16)
    of.enter(job)
    of.add(Step(job, RELEASE, 16))
    assert [(t.first, t.end) for _ in range(3) for t in of.take(1)] == [(0, 8), (8, 16)]


def test_rounds_of_one_merchant_wait_while_the_denoiser_is_busy_and_others_begin() -> None:
    of = schedule(calls=2, most=8)
    jobs = [Job("flood", 30, 5) for _ in range(6)]
    for job in jobs:
        of.enter(job)
    assert of.begin() == jobs[:4], "16 rows are enough for two calls"
    assert [of.position(job) for job in jobs] == [0, 0, 0, 0, 1, 2]
    assert of.ahead_of(jobs[5]) == 150
    other = Job("ada", 30, 5)
    of.enter(other)
    assert of.begin() == [other]
    of.leave(jobs[0])
    of.leave(jobs[1])
    assert of.begin() == [jobs[4]] and of.position(jobs[5]) == 1


def test_what_is_dropped_or_has_left_is_not_computed() -> None:
    of = schedule()
    jobs = [Job(merchant, 10, 5) for merchant in ("ada", "bob")]
    steps = [Step(job, RELEASE, 5) for job in jobs]
    for job, step in zip(jobs, steps, strict=True):
        of.enter(job)
        of.add(step)
    of.drop(steps[0])
    of.leave(jobs[1])
    of.drop(steps[1])
    assert of.take(1) == []


@settings(max_examples=60, deadline=None)
@given(
    rounds=st.lists(
        st.tuples(
            st.sampled_from("abcd"), st.integers(1, 16), st.integers(1, 12), st.sampled_from([0.1, 2.0, math.inf])
        ),
        min_size=1,
        max_size=12,
    ),
    most=st.integers(1, 32),
    quantum=st.integers(1, 100),
)
def test_every_round_is_computed_once_and_whole(
    rounds: list[tuple[str, int, int, float]], most: int, quantum: int
) -> None:
    played = Played(schedule(least=1, most=most, quantum=quantum))
    jobs = [played.enter(*each) for each in rounds]
    played.to_the_end()
    assert played.ended.keys() == set(jobs)
    assert played.sample_steps == sum(rows * steps for _, rows, steps, _ in rounds)
