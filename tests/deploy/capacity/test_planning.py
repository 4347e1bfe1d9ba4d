"""The smallest cluster that keeps a promise, and a refusal where none does."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.capacity.measured import MODELS_OF_A_ROUND, CapacityError, Curve, Measured, Station
from deploy.capacity.planning import Demand, Prices, alone_s, plan, simulated
from deploy.local.layout import ROOT

MEASURED = Measured(
    "test",
    2,
    0,
    {name: Station(Curve(0.004, 0.001), 2) for name in MODELS_OF_A_ROUND},
    0.0,
    0.02,
    0.001,
    0.05,
    6_000,
    2_000,
)
DEMAND = Demand(400_000, p95_s=0.21)


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.capacity.planning.SIMULATED_ROUNDS", 600)
    monkeypatch.setattr("deploy.capacity.planning.SIMULATED_S", 10.0)


def test_one_machine_less_would_not_keep_it() -> None:
    found, patient = plan(DEMAND, MEASURED), plan(replace(DEMAND, p95_s=100.0), MEASURED)
    assert found.machines > patient.machines > 1 and found.p95_s <= 0.21 and found.load < patient.load <= 0.85
    outcome = simulated(DEMAND, MEASURED, found.machines - 1, found.places)
    assert outcome.tail_s() > 0.21 or outcome.refused_share > 0.001


def test_more_merchants_need_more_of_everything() -> None:
    small, large = (plan(replace(DEMAND, merchants=n), MEASURED) for n in (40_000, 1_200_000))
    for name in ("machines", "generation_replicas", "pictures_gib", "events_gib", "price_a_month"):
        assert getattr(large, name) > getattr(small, name), name
    assert small.generation_replicas >= 2 and small.partitions >= 6


def test_a_promise_that_a_single_round_breaks_is_refused() -> None:
    with pytest.raises(CapacityError, match="no cluster makes it"):
        plan(replace(DEMAND, p95_s=alone_s(DEMAND, MEASURED) * 0.9), MEASURED)


def test_storage_and_price_are_arithmetic() -> None:
    found = plan(DEMAND, MEASURED, prices=Prices(machine=100.0, stored_gib=1.0))
    assert found.pictures_gib == pytest.approx(400_000 * 6 * 90 * 5 * 6_000 / 2**30)
    assert found.events_gib == pytest.approx(400_000 * 6 * 7 * 2_000 * 3 / 2**30)
    assert found.price_a_month == pytest.approx(found.machines * 100 + found.pictures_gib + found.events_gib)


def test_a_large_cluster_is_simulated_by_some_of_its_machines() -> None:
    demand = replace(DEMAND, merchants=4_000_000)
    whole, some = (simulated(replace(demand, merchants=n), MEASURED, n // 50_000, 16) for n in (400_000, 4_000_000))
    assert some.places["cores"] < 2 * 80 and some.load == pytest.approx(whole.load, rel=0.1)


def test_without_a_place_there_is_no_plan() -> None:
    with pytest.raises(CapacityError, match="places is 0"):
        plan(DEMAND, MEASURED, places=0)


@pytest.mark.parametrize("wrong", [{"merchants": 0}, {"busiest_hour": 1.5}, {"p95_s": -1.0}])
def test_a_number_out_of_its_range_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(CapacityError, match=next(iter(wrong))):
        replace(DEMAND, **wrong)


def test_measured_times_are_read_as_they_were_written(tmp_path: Path) -> None:
    MEASURED.write(tmp_path / "measured.json")
    assert Measured.read(tmp_path / "measured.json") == MEASURED
    said = json.loads((tmp_path / "measured.json").read_text())
    (tmp_path / "measured.json").write_text(json.dumps(said | {"idle_cores": 2}))
    with pytest.raises(CapacityError, match="idle_cores is 2, of 2 cores"):
        Measured.read(tmp_path / "measured.json")
    del said["stations"]["denoiser"]
    (tmp_path / "measured.json").write_text(json.dumps(said))
    with pytest.raises(CapacityError, match="no times of denoiser"):
        Measured.read(tmp_path / "measured.json")


def test_a_curve_is_the_best_line_of_times_that_can_be() -> None:
    curve = Curve.fitted([10, 10, 5], [10, 20, 20], [3.0, 4.0, 3.0])
    assert (curve.fixed_s, curve.row_s) == (pytest.approx(0.2), pytest.approx(0.1))
    assert Curve.fitted([1, 1], [1, 2], [0.1, 0.3]).fixed_s == 0  # a batch of none takes no time
    assert Curve.fitted([1, 1], [1, 2], [0.3, 0.2]).seconds(9) == pytest.approx(0.25)  # nor does a larger one take less
    with pytest.raises(CapacityError, match="two sizes"):
        Curve.fitted([1, 3], [5, 15], [0.1, 0.3])


def test_the_command_says_what_is_needed(tmp_path: Path) -> None:
    MEASURED.write(tmp_path / "measured.json")
    command = [sys.executable, "-m", "deploy.capacity", "--measured", str(tmp_path / "measured.json"), "--merchants"]
    said = subprocess.run([*command, "2000", "4000"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "2,000" in said and "machines (test)" in said
    refused = subprocess.run([*command, "0"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "no plan: merchants is 0" in refused.stderr
