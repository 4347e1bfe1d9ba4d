"""Queues as theory knows them, batches as Triton makes them, and nothing lost on the way."""

from dataclasses import replace

import numpy as np
import pytest

from deploy.capacity.measured import Curve, Measured, Phase, Station
from deploy.capacity.simulation import Simulation, poisson


def machine(cores: int = 1, devices: int = 0, **stations: Station) -> Measured:
    return Measured("test", cores, devices, stations, 0.0, 0.0, 0.0, 0.0, 1, 1)


SERVER = Station(Curve(0.1, 0.0), instances=1, max_rows=1)


@pytest.mark.parametrize("load", [0.3, 0.7, 0.9])
def test_one_server_of_constant_work_waits_as_pollaczek_and_khinchine_say(load: float) -> None:
    arrivals = poisson(load / 0.1, 8_000.0, [Phase("model", 1)])
    outcome = Simulation(machine(model=SERVER), 1, 10**9).run(arrivals)
    waited = np.mean(outcome.latencies_s) - 0.1
    assert waited == pytest.approx(load * 0.1 / (2 * (1 - load)), rel=0.08)
    assert outcome.busy_s["cores"] / outcome.ended_s == pytest.approx(load, rel=0.03)


def test_what_waits_is_one_batch() -> None:
    station = Station(Curve(1.0, 0.1), instances=1, max_rows=32)
    outcome = Simulation(machine(model=station), 1, 99).run([(0.0, [Phase("model", 4)])] * 9)
    # The first runs alone; the others have come meanwhile, and 32 rows are eight of them.
    assert outcome.latencies_s == pytest.approx([1.4, *[1.4 + 4.2] * 8])


def test_a_batch_takes_no_more_than_its_rows() -> None:
    station = Station(Curve(1.0, 0.0), instances=1, max_rows=8)
    outcome = Simulation(machine(model=station), 1, 99).run([(0.0, [Phase("model", 4)])] * 6)
    assert outcome.latencies_s == pytest.approx([1.0, 2.0, 2.0, 3.0, 3.0, 4.0])


@pytest.mark.parametrize(("cores", "instances", "ends"), [(1, 2, 4), (2, 1, 4), (2, 2, 2), (4, 4, 1)])
def test_work_needs_an_instance_and_a_core(cores: int, instances: int, ends: float) -> None:
    station = Station(Curve(1.0, 0.0), instances, max_rows=1)
    outcome = Simulation(machine(cores, model=station), 1, 99).run([(0.0, [Phase("model", 1)])] * 4)
    assert outcome.ended_s == pytest.approx(ends)


def test_devices_leave_the_cores_to_the_services() -> None:
    phases = [Phase(work_s=1.0), Phase("model", 1), Phase(wait_s=0.5)]
    station = Station(Curve(1.0, 0.0), 1, 1)
    on_cores = Simulation(machine(1, 0, model=station), 1, 9).run([(0.0, phases)] * 2)
    beside = Simulation(machine(1, 1, model=station), 1, 9).run([(0.0, phases)] * 2)
    assert on_cores.ended_s == pytest.approx(4.5) and beside.ended_s == pytest.approx(3.5)
    assert beside.busy_s == {"cores": pytest.approx(2.0), "devices": pytest.approx(2.0)}


def test_what_runs_while_nobody_asks_slows_the_cores_and_no_device() -> None:
    phases, station = [Phase(work_s=1.0), Phase("model", 1)], Station(Curve(1.0, 0.0), 1, 1)
    for devices, ends in ((0, 4.0), (1, 3.0)):
        half_idle = replace(machine(1, devices, model=station), idle_cores=0.5)
        assert Simulation(half_idle, 1, 9).run([(0.0, phases)]).ended_s == pytest.approx(ends)


def test_rounds_beyond_the_places_are_refused_and_all_others_end() -> None:
    arrivals = poisson(50.0, 20.0, [Phase(work_s=0.02), Phase("model", 3), Phase(wait_s=0.1)], seed=3)
    station = Station(Curve(0.03, 0.002), instances=2, max_rows=8)
    outcome = Simulation(machine(2, model=station), 1, 5).run(arrivals)
    assert outcome.refused > 100 and outcome.refused + len(outcome.latencies_s) == len(arrivals)
    assert outcome.busy_s["cores"] <= 2 * outcome.ended_s


def test_machines_share_the_calls() -> None:
    arrivals = poisson(25.0, 200.0, [Phase("model", 1)], seed=1)
    tails = [Simulation(machine(model=SERVER), n, 10**9).run(arrivals).tail_s() for n in (3, 4, 8)]
    assert tails[0] > tails[1] > tails[2] >= 0.1


def test_the_same_arrivals_give_the_same_outcome() -> None:
    def outcome() -> object:
        return Simulation(machine(model=replace(SERVER, max_rows=4)), 2, 9).run(
            poisson(30.0, 20.0, [Phase("model", 2)])
        )

    assert outcome() == outcome()
