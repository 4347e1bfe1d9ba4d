"""Items that are lost from one arm are noticed, chance is not."""

import numpy as np

from training.measurement.lift.randomisation import sample_ratio

STORE = np.repeat(np.arange(50), 40)


def test_chance_raises_no_alarm() -> None:
    rng = np.random.default_rng(0)
    found = [sample_ratio(STORE, rng.random(2_000) < 0.3, 0.3) for _ in range(300)]
    assert sum(of["wrong"] for of in found) <= 2
    assert 0.02 < np.mean([of["p"] < 0.05 for of in found]) < 0.09
    assert 0.02 < np.mean([of["p_by_store"] < 0.05 for of in found]) < 0.09


def test_lost_items_do_overall_and_store_by_store() -> None:
    rng = np.random.default_rng(0)
    treated = rng.random(2_000) < 0.5
    lost = treated & (rng.random(2_000) < 0.2)
    assert sample_ratio(STORE[~lost], treated[~lost], 0.5)["wrong"]
    swapped = np.where(STORE < 25, rng.random(2_000) < 0.7, rng.random(2_000) < 0.3)
    found = sample_ratio(STORE, swapped, 0.5)
    assert found["p"] > 0.001 > found["p_by_store"]
    assert found["wrong"]
