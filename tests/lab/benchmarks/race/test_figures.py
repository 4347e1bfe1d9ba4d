"""The race's arithmetic and bookkeeping: no peer, no platform."""

import os
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest

from lab.benchmarks.race import processes
from lab.benchmarks.race.__main__ import AGAIN, NETWORK, OURS, PLAIN, WISHES, goals
from lab.benchmarks.race.contestants.loop import Ddim, Solver
from lab.benchmarks.race.figures import Block, best, compared, ratio, table
from lab.benchmarks.race.job import CANDIDATES, STEPS, by_round, decode_png, noise_of, round_of
from services.generation.samplers import DpmSolverPlusPlus2M, cumulative_alphas
from services.generation.seeds import noise_of as services_noise_of


def blocks(*costs: float) -> list[Block]:
    """One a turn, of ten pictures in a second."""
    return [Block(10, 10 * cost, 1.0) for cost in costs]


def test_a_ratio_is_that_of_each_turn_and_not_of_the_medians() -> None:
    found = ratio(blocks(1.0, 4.0, 9.0), blocks(2.0, 2.0, 3.0))  # 0.5, 2, 3; the medians' is 2

    assert found["ratio"] == 2.0
    assert (found["low"], found["high"]) == (0.5, 3.0)


def test_equal_turns_leave_no_interval() -> None:
    assert ratio(blocks(0.2, 0.4), blocks(0.1, 0.2)) == pytest.approx({"ratio": 2.0, "low": 2.0, "high": 2.0})


def test_turns_that_do_not_pair_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ratio(blocks(1.0, 1.0), blocks(1.0))


def test_the_best_peer_is_the_cheapest_that_ran() -> None:
    found = compared({OURS: blocks(0.1), "bentoml": blocks(0.3), "litserve": blocks(0.2)}, OURS, {"bentoml": 0.5})

    assert best(found, ("bentoml", "litserve", "ray serve")) == "litserve"
    assert found["litserve"]["over_base"]["ratio"] == pytest.approx(2.0)
    assert found["litserve"]["pictures_a_second"] == 10
    assert found["bentoml"]["idle_cores"] == 0.5


def test_goals_say_who_is_over_whom() -> None:
    own = {
        OURS: blocks(0.1), AGAIN: blocks(0.11), "litserve": blocks(0.15), "onnxruntime": blocks(0.01),
        PLAIN: blocks(0.2), WISHES: blocks(0.202), NETWORK: blocks(0.24),
    }  # fmt: skip
    found = goals(own, compared(own, OURS, {PLAIN: 1.0, WISHES: 1.0, NETWORK: 1.0}), clients=1)

    assert [goal["ratio"] for goal in found] == pytest.approx(
        [1.5, 0.15 / 0.202, 1.02, 1.4, 1.1]
    )  # idle: 0.1 a picture
    assert "litserve" in found[0]["what"]


def test_goals_of_those_who_did_not_run_are_left_out() -> None:
    assert goals({OURS: blocks(0.1)}, compared({OURS: blocks(0.1)}, OURS, {}), clients=1) == []


def test_the_table_has_every_contestant_and_who_did_not_run() -> None:
    own = {OURS: blocks(0.1), AGAIN: blocks(0.1), "litserve": blocks(0.15)}
    found = compared(own, OURS, {})
    told = table(
        {
            "clients": {"1": found},
            "goals": goals(own, found, 1),
            "not_run": {"bentoml": "no wheel"},
            "same_pictures": {"litserve": {"most": 1, "mean": 0.25}},
        }
    )

    rows = [line for line in told.splitlines() if line.startswith("litserve  ")]
    assert rows[0].split()[1:3] == ["150.0", "1.50"]
    assert "bentoml: no wheel" in told and "1 levels" in told and "≥ 1.3" in told


def test_noise_and_rounds_are_the_services_own() -> None:
    seeds = round_of(3).seeds

    assert len(seeds) == CANDIDATES and not set(seeds) & set(round_of(4).seeds)
    np.testing.assert_array_equal(noise_of(seeds), services_noise_of(seeds, (4, 8, 8)))


def test_pictures_come_back_by_round() -> None:
    rounds = [round_of(0), round_of(1)]
    images = np.random.default_rng(0).integers(0, 256, (2 * CANDIDATES, 4, 4, 3)).astype(np.uint8)

    pngs = by_round(images, rounds)

    assert [len(of_round) for of_round in pngs] == [CANDIDATES, CANDIDATES]
    np.testing.assert_array_equal(decode_png(pngs[1][0]), images[CANDIDATES])


def _wave(latents: np.ndarray, timestep: int) -> np.ndarray:
    return np.sin(latents + timestep / 300).astype(np.float32)


SCHEDULE = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def test_the_contestants_solver_is_the_services() -> None:
    latents = own = noise_of((1, 2))
    sampler = DpmSolverPlusPlus2M(cumulative_alphas(**SCHEDULE), STEPS)
    for index, timestep in enumerate(sampler.timesteps):
        own = sampler.step(_wave(own, timestep), own, index).latents

    np.testing.assert_allclose(Solver(SCHEDULE).run(latents, _wave), own, atol=1e-5)
    assert np.abs(Ddim(SCHEDULE).run(latents, _wave) - own).max() > 1e-3


def _within(seconds: float, holds: Callable[[], bool]) -> bool:
    until = time.monotonic() + seconds
    while not holds() and time.monotonic() < until:
        time.sleep(0.01)
    return holds()


def test_cpu_is_that_of_a_mark_and_its_children_until_they_are_stopped() -> None:
    mark = f"test-{os.getpid()}"
    burn = "import time\nwhile time.process_time() < 0.1: pass\ntime.sleep(60)"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {burn!r}])"
    process = subprocess.Popen([sys.executable, "-c", parent], env=processes.environment(mark, {}))
    try:
        assert _within(20, lambda: processes.cpu_s(processes.marked(mark)) >= 0.1)
        assert _within(20, lambda: len(processes.marked(mark)) == 2)
        assert processes.marked(mark + "-of-another") == []
    finally:
        processes.stop(mark)
        process.wait()
    assert processes.marked(mark) == []
