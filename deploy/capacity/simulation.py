"""Rounds that queue for Triton's instances and for cores or devices: a discrete-event simulation.

A batch of a model takes what waits for the model when an instance of it is free and a core (or device) is, up to the
model's largest batch, as Triton's dynamic batching does. Calls of a round go to the replicas in turn. A round beyond
the places of the generation service is refused at once. Knows phases and queues; neither merchants nor plans.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, cycle

import numpy as np

from deploy.capacity.measured import Measured, Phase

DONE = Phase()


@dataclass
class Outcome:
    """What became of the rounds that arrived."""

    latencies_s: list[float] = field(default_factory=list)  # of finished ones, in the order of their ends
    refused: int = 0
    busy_s: dict[str, float] = field(default_factory=dict)  # by pool, summed over its places
    places: dict[str, int] = field(default_factory=dict)  # by pool, on all machines
    ended_s: float = 0.0

    def tail_s(self, share: float = 0.95) -> float:
        """The latency that this share of the finished rounds stays below; infinite where none finished."""
        return float(np.quantile(self.latencies_s, share)) if self.latencies_s else float("inf")

    @property
    def load(self) -> float:
        """Of the busiest pool."""
        return max(self.busy_s.get(pool, 0.0) / (places * self.ended_s) for pool, places in self.places.items())

    @property
    def refused_share(self) -> float:
        return self.refused / max(1, self.refused + len(self.latencies_s))


@dataclass
class _Round:
    arrived_s: float
    phases: Iterator[Phase]


class _Pool:
    """Cores or devices of one machine: so many works at a time, first come, first served, each so much stretched."""

    def __init__(self, name: str, places: int, stretch: float = 1.0) -> None:
        self.name, self.free, self.stretch = name, places, stretch
        self.waiting: deque[Callable[[], float | None]] = deque()


class _Model:
    """One model on one machine."""

    def __init__(self, seconds: Callable[[int], float], instances: int, max_rows: int, pool: _Pool) -> None:
        self.seconds, self.free, self.max_rows, self.pool = seconds, instances, max_rows, pool
        self.queue: deque[tuple[_Round, int]] = deque()

    def batch(self) -> list[tuple[_Round, int]]:
        """What runs next, together; a single request larger than a batch runs alone."""
        taken, rows = list[tuple[_Round, int]](), 0
        while self.queue and (not taken or rows + self.queue[0][1] <= self.max_rows):
            taken.append(self.queue.popleft())
            rows += taken[-1][1]
        return taken


class Simulation:
    """So many machines of a kind behind so many places."""

    def __init__(self, measured: Measured, machines: int, places: int) -> None:
        self._measured, self._places = measured, places
        self._now, self._order = 0.0, count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._in_flight = 0
        pools = {"cores": measured.cores * machines, "devices": measured.devices * machines}
        self.outcome = Outcome(places={pool: places for pool, places in pools.items() if places})
        stretch = measured.cores / measured.free_cores  # what runs while nobody asks runs beside every round
        hosts = [_Pool("cores", measured.cores, stretch) for _ in range(machines)]
        devices = [_Pool("devices", measured.devices) for _ in range(machines)] if measured.devices else hosts
        self._hosts = cycle(hosts)
        self._models = {
            name: cycle([_Model(s.curve.seconds, s.instances, s.max_rows, device) for device in devices])
            for name, s in measured.stations.items()
        }

    def run(self, arrivals: Iterable[tuple[float, Sequence[Phase]]]) -> Outcome:
        """Plays rounds that arrive at these times, in order, to the end of the last one."""
        for at, phases in arrivals:
            self._at(at, lambda phases=phases: self._arrive(phases))  # type: ignore[misc]
        while self._events:
            self._now, _, happens = heapq.heappop(self._events)
            happens()
        self.outcome.ended_s = self._now
        return self.outcome

    def _at(self, time: float, happens: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._order), happens))

    def _arrive(self, phases: Sequence[Phase]) -> None:
        if self._in_flight >= self._places:
            self.outcome.refused += 1
            return
        self._in_flight += 1
        self._go_on(_Round(self._now, iter(phases)))

    def _go_on(self, round_: _Round) -> None:
        phase = next(round_.phases, DONE)
        if phase is DONE:
            self._in_flight -= 1
            self.outcome.latencies_s.append(self._now - round_.arrived_s)
        elif phase.model:
            model = next(self._models[phase.model])
            model.queue.append((round_, phase.rows))
            self._offer(model)
        elif phase.work_s:
            self._take(next(self._hosts), lambda: (phase.work_s, lambda: self._go_on(round_)))
        else:
            self._at(self._now + phase.wait_s, lambda: self._go_on(round_))

    def _offer(self, model: _Model) -> None:
        """An instance that is free waits for a core; what it computes is decided when it has one."""
        if model.free and model.queue:
            model.free -= 1
            self._take(model.pool, lambda: self._compute(model))

    def _compute(self, model: _Model) -> tuple[float, Callable[[], None]] | None:
        batch = model.batch()
        if not batch:
            model.free += 1
            return None

        def computed() -> None:
            model.free += 1
            for round_, _ in batch:
                self._go_on(round_)
            self._offer(model)

        if model.queue:
            self._at(self._now, lambda: self._offer(model))
        return model.seconds(sum(rows for _, rows in batch)), computed

    def _take(self, pool: _Pool, work: Callable[[], tuple[float, Callable[[], None]] | None]) -> None:
        """Does the work when a place is free; work that turns out to be none gives the place back."""

        def begin() -> float | None:
            if (what := work()) is None:
                return None
            seconds, then = what[0] * pool.stretch, what[1]
            self._at(self._now + seconds, lambda: self._release(pool, then))
            return seconds

        pool.waiting.append(begin)
        self._fill(pool)

    def _fill(self, pool: _Pool) -> None:
        while pool.free and pool.waiting:
            pool.free -= 1
            seconds = pool.waiting.popleft()()
            if seconds is None:
                pool.free += 1
            else:
                self.outcome.busy_s[pool.name] = self.outcome.busy_s.get(pool.name, 0.0) + seconds

    def _release(self, pool: _Pool, then: Callable[[], None]) -> None:
        pool.free += 1
        then()
        self._fill(pool)


def poisson(rate: float, seconds: float, phases: Sequence[Phase], seed: int = 0) -> list[tuple[float, Sequence[Phase]]]:
    """Rounds that arrive by chance, `rate` a second on average."""
    rng, arrivals, now = np.random.default_rng(seed), list[tuple[float, Sequence[Phase]]](), 0.0
    while (now := now + rng.exponential(1 / rate)) < seconds:
        arrivals.append((now, phases))
    return arrivals
