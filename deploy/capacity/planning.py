"""From merchants and their habits to the smallest cluster whose simulated tail is short enough, its storage and price.

The tail is simulated at the busiest hour. Prices are the caller's: those here are examples. Knows arithmetic only.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

from deploy.capacity.measured import CapacityError, Measured, round_of
from deploy.capacity.simulation import Outcome, Simulation, poisson

SIMULATED_ROUNDS = 3_000  # enough for a 95th percentile
SIMULATED_S = 60.0  # at least: queues grow to their length in seconds
MOST_MACHINES = 4_096
HIGHEST_LOAD = 0.85  # of a pool: above, a little more traffic makes any queue long
MOST_REFUSED = 0.001
PICKED = 0.8  # of the groups
REPLICATION = 3  # of Kafka's events
PARTITION_EVENTS = 500.0  # a second, far below what a broker takes: a consumer has to keep up
FEWEST_PARTITIONS = 6
GIB = 2**30


@dataclass(frozen=True)
class Demand:
    """Who designs how much, and what is promised.

    Raises:
        CapacityError: a number is out of its range; names it.
    """

    merchants: int
    rounds_a_day: float = 6.0  # of one merchant
    busiest_hour: float = 0.12  # of a day's rounds
    candidates: int = 5
    steps: int = 6
    p95_s: float = 10.0  # latency of a round
    picture_days: float = 90.0  # that pictures are kept
    event_days: float = 7.0  # that Kafka keeps events

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not value > 0:
                raise CapacityError(f"{name} is {value:g}, a positive number is needed")
        if self.busiest_hour > 1:
            raise CapacityError(f"busiest_hour is {self.busiest_hour:g}, a share of a day's rounds is at most 1")

    @property
    def rounds_a_second(self) -> float:
        """In the busiest hour."""
        return self.merchants * self.rounds_a_day * self.busiest_hour / 3600


@dataclass(frozen=True)
class Prices:
    """Of a month; examples, not offers."""

    machine: float = 250.0
    stored_gib: float = 0.02


@dataclass(frozen=True)
class Plan:
    """What a demand needs."""

    machines: int
    devices: int  # GPUs, on all machines
    load: float  # of the busiest pool, in the busiest hour
    p50_s: float
    p95_s: float
    refused_share: float
    generation_replicas: int
    places: int  # rounds in flight of one replica
    partitions: int
    pictures_gib: float
    events_gib: float
    price_a_month: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def plan(demand: Demand, measured: Measured, places: int = 16, prices: Prices | None = None, seed: int = 0) -> Plan:
    """The smallest cluster that keeps the promise.

    Args:
        places: rounds in flight of one generation replica, PERFUSION_MAX_CONCURRENT_ROUNDS.

    Raises:
        CapacityError: no cluster keeps it: a single round takes longer alone; or `places` is out of its range.
    """
    if places < 1:
        raise CapacityError(f"places is {places}, at least 1")
    alone = alone_s(demand, measured)
    if alone > demand.p95_s:
        raise CapacityError(f"a round takes {alone:.2f} s alone; no cluster makes it {demand.p95_s:g} s")

    fewest = max(1, math.ceil(demand.rounds_a_second * machine_s(demand, measured) / HIGHEST_LOAD))
    machines, step = fewest, 1
    while not _keeps(demand, outcome := simulated(demand, measured, machines, places, seed)):
        machines, step = machines + step, step * 2
        if machines > MOST_MACHINES:
            raise CapacityError(f"more than {MOST_MACHINES} machines of this kind are needed")
    low = max(fewest, machines - step // 2)  # the last one that did not, or the fewest
    while low < machines:
        middle = (low + machines) // 2
        tried = simulated(demand, measured, middle, places, seed)
        if _keeps(demand, tried):
            machines, outcome = middle, tried
        else:
            low = middle + 1
    return _described(demand, measured, machines, outcome, places, prices or Prices())


def alone_s(demand: Demand, measured: Measured) -> float:
    """The latency of a round that nothing disturbs."""
    phases = round_of(measured, demand.candidates, demand.steps)
    return Simulation(measured, 1, 1).run([(0.0, phases)]).latencies_s[0]


def machine_s(demand: Demand, measured: Measured) -> float:
    """Of a whole machine, what a round takes of its busiest pool, batched as well as can be."""
    phases, stations = round_of(measured, demand.candidates, demand.steps), measured.stations
    work = sum(phase.work_s for phase in phases)
    of_a_row = {name: each.curve.seconds(each.max_rows) / each.max_rows for name, each in stations.items()}
    models = sum(of_a_row[phase.model] * phase.rows for phase in phases if phase.model)
    if not measured.devices:
        return (work + models) / measured.free_cores
    return max(work / measured.free_cores, models / measured.devices)


def simulated(demand: Demand, measured: Measured, machines: int, places: int, seed: int = 0) -> Outcome:
    """The busiest hour, or as much of it as tells the tail, of a cluster or so many of its machines."""
    share = min(1.0, max(1 / machines, SIMULATED_ROUNDS / (demand.rounds_a_second * SIMULATED_S)))
    some = max(1, round(machines * share))  # with their share of the rounds; queues of fewer machines are longer
    phases, rate = round_of(measured, demand.candidates, demand.steps), demand.rounds_a_second * some / machines
    seconds = min(3600.0, max(SIMULATED_S, SIMULATED_ROUNDS / rate))
    return Simulation(measured, some, places * some).run(poisson(rate, seconds, phases, seed))


def _keeps(demand: Demand, outcome: Outcome) -> bool:
    quick, taken = outcome.tail_s() <= demand.p95_s, outcome.refused_share <= MOST_REFUSED
    return quick and taken and outcome.load <= HIGHEST_LOAD


def _described(
    demand: Demand, measured: Measured, machines: int, outcome: Outcome, places: int, prices: Prices
) -> Plan:
    in_flight = demand.rounds_a_second * float(sum(outcome.latencies_s)) / max(1, len(outcome.latencies_s))
    a_day = demand.merchants * demand.rounds_a_day
    pictures = a_day * demand.picture_days * demand.candidates * measured.picture_bytes / GIB
    events = a_day * demand.event_days * measured.event_bytes * REPLICATION / GIB
    return Plan(
        machines=machines,
        devices=machines * measured.devices,
        load=outcome.load,
        p50_s=outcome.tail_s(0.5),
        p95_s=outcome.tail_s(),
        refused_share=outcome.refused_share,
        generation_replicas=max(2, math.ceil(2 * in_flight / places)),
        places=places,
        partitions=max(FEWEST_PARTITIONS, math.ceil(demand.rounds_a_second * (1 + PICKED) / PARTITION_EVENTS)),
        pictures_gib=pictures,
        events_gib=events,
        price_a_month=machines * prices.machine + (pictures + events) * prices.stored_gib,
    )
