"""Which rows of which rounds go into the denoiser's next call. Pure: it knows rounds, rows and seconds; no I/O.

Work is counted in sample-steps: one candidate, one denoising step. Merchants have turns, by deficit round robin: each
may spend `quantum` sample-steps a turn. Merchants who had nothing to do go before all others until they have spent it
(the "new flows" of FQ-CoDel, RFC 8290), and among them those first who need least of it. So a small round does not wait
behind large ones, nor one merchant behind another's many rounds. Rounds of one merchant go in the order they came.

A round begins at once unless the denoiser has enough to do and a round of the same merchant is under way: so much for
the queue. Whether there is time for a round is the question of `has_time_for`, which is asked before it is admitted.
Deadlines decide nothing else: rounds that are about to be late, served first, would make all others late after them.
"""

import math
from collections import deque
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

UNKNOWN_RATE = math.inf  # sample-steps a second, before anything was measured
RESERVE = 1.25  # times the time that a round needs is what it must have before its deadline


@dataclass(eq=False)
class Job:
    """The denoising of one round."""

    merchant: str
    sample_steps: int  # of the whole round
    rows: int  # candidates
    ends_at: float = math.inf  # when its last step must be done, by the clock of `now`
    left: int = field(init=False)  # sample-steps to be done; whoever did some says so
    has_begun: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.left = self.sample_steps

    @property
    def step(self) -> int:
        """The denoising step that it is at, from 1."""
        return 1 + (self.sample_steps - self.left) // self.rows


@dataclass(eq=False)
class Step:
    """Rows of a round that wait for one denoising step; they may go into several calls."""

    job: Job
    shares: Hashable  # rows of different steps go into one call where this is the same
    rows: int
    taken: int = 0  # rows that went into calls

    @property
    def waiting(self) -> int:
        return self.rows - self.taken


@dataclass(frozen=True)
class Taken:
    """Some rows of a step, in a call."""

    step: Step
    first: int
    end: int  # one after the last


@dataclass(eq=False)
class _Flow:
    """The rounds of one merchant."""

    merchant: str
    credit: int  # sample-steps of this turn that are left
    jobs: list[Job] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    @property
    def wanted(self) -> int:
        """What its rounds need of this turn."""
        return min(self.credit, sum(job.left for job in self.jobs))


class Schedule:
    """The rounds under way and in the queue.

    Args:
        calls: of the denoiser that run side by side.
        least_rows, most_rows: a step is not split below the first to keep all calls busy; no call exceeds the second.
        quantum: sample-steps of a merchant's turn.
    """

    def __init__(self, calls: int, least_rows: int, most_rows: int, quantum: int) -> None:
        self._calls, self._quantum = calls, quantum
        self._least_rows, self._most_rows = min(least_rows, most_rows), most_rows
        self._flows: dict[str, _Flow] = {}
        self._new: deque[_Flow] = deque()
        self._old: deque[_Flow] = deque()
        self._jobs: list[Job] = []  # in the order they came
        self.rate = UNKNOWN_RATE

    # --- rounds -----------------------------------------------------------------------------------------------------

    def enter(self, job: Job) -> None:
        flow = self._flows.get(job.merchant)
        if flow is None:
            flow = self._flows[job.merchant] = _Flow(job.merchant, self._quantum)
            self._new.append(flow)
        elif not flow.jobs and flow.credit > 0:
            self._old.remove(flow)
            self._new.append(flow)
        flow.jobs.append(job)
        self._jobs.append(job)

    def leave(self, job: Job) -> None:
        """However it ended; its steps no longer wait."""
        flow = self._flows[job.merchant]
        flow.jobs.remove(job)
        flow.steps = [step for step in flow.steps if step.job is not job]
        self._jobs.remove(job)
        if not flow.jobs and flow in self._new:  # what is spent stays so until its turn among the old
            self._new.remove(flow)
            self._old.append(flow)

    def begin(self) -> list[Job]:
        """Rounds of the queue whose work may begin now; they count as begun."""
        begun = []
        for job in self._jobs:
            if not job.has_begun and self._may_begin(job):
                job.has_begun = True
                begun.append(job)
        return begun

    def _may_begin(self, job: Job) -> bool:
        rows = sum(other.rows for other in self._jobs if other.has_begun)
        is_busy = rows >= self._calls * self._most_rows
        return not (is_busy and any(other.has_begun for other in self._flows[job.merchant].jobs))

    def position(self, job: Job) -> int:
        """Of a round in the queue, from 1; 0 when it has begun."""
        queue = [other for other in self._jobs if not other.has_begun]
        return 0 if job.has_begun else queue.index(job) + 1

    def has_time_for(self, job: Job, now: float) -> bool:
        """Whether a round would be in time, with some reserve, if every merchant gets an equal share meanwhile."""
        of_others: dict[str, int] = {}
        own = job.left
        for other in self._jobs:
            if other.merchant == job.merchant:
                own += other.left
            else:
                of_others[other.merchant] = of_others.get(other.merchant, 0) + other.left
        before_it_ends = own + sum(min(own, left) for left in of_others.values())
        return now + RESERVE * before_it_ends / self.rate <= job.ends_at

    @property
    def left(self) -> int:
        """Sample-steps of all rounds."""
        return sum(job.left for job in self._jobs)

    def ahead_of(self, job: Job) -> int:
        """Sample-steps of the rounds that came before."""
        return sum(other.left for other in self._jobs[: self._jobs.index(job)])

    # --- steps ------------------------------------------------------------------------------------------------------

    def add(self, step: Step) -> None:
        self._flows[step.job.merchant].steps.append(step)

    def drop(self, step: Step) -> None:
        """It no longer waits; the rows in calls are computed for nobody."""
        flow = self._flows.get(step.job.merchant)
        if flow is not None and step in flow.steps:
            flow.steps.remove(step)

    def take(self, idle_calls: int) -> list[Taken]:
        """The rows of the next call, when so many calls are idle, it among them; none when nothing waits."""
        taken: list[Taken] = []
        room = self._room(idle_calls)
        while room and (step := self._next(taken)) is not None:
            if taken and step.waiting > room:
                break  # whole steps, where there is a choice: half a step is of no use until the other half is done
            rows = min(step.waiting, room)
            taken.append(Taken(step, step.taken, step.taken + rows))
            step.taken += rows
            room -= rows
            flow = self._flows[step.job.merchant]
            flow.credit -= rows
            if not step.waiting:
                flow.steps.remove(step)
        return taken

    def _room(self, idle_calls: int) -> int:
        """Rows of the next call: what waits is spread over the calls that are idle."""
        waiting = sum(step.waiting for flow in self._flows.values() for step in flow.steps)
        return min(self._most_rows, max(self._least_rows, math.ceil(waiting / max(1, idle_calls))))

    def _next(self, taken: Sequence[Taken]) -> Step | None:
        """The step that goes first among those that fit into the call."""
        shares = taken[0].step.shares if taken else None

        def fitting(steps: Sequence[Step]) -> list[Step]:
            return [step for step in steps if not taken or step.shares == shares]

        if not any(fitting(flow.steps) for flow in self._flows.values()):
            return None
        while True:
            new = sorted(self._new, key=lambda flow: flow.wanted)
            for flows, in_order in ((self._new, new), (self._old, list(self._old))):
                for flow in in_order:
                    if not flow.jobs:  # of the old ones; its turn has come without it
                        flows.remove(flow)
                        del self._flows[flow.merchant]
                    elif steps := fitting(flow.steps):
                        if flow.credit > 0:
                            return steps[0]
                        flows.remove(flow)
                        flow.credit += self._quantum
                        self._old.append(flow)
