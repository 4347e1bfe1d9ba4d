"""A team's own A/A test: right on equal items, loud where the intervals are too short for the shop."""

import numpy as np
import pytest

from lab.shop.stores import Shop, counts
from training.measurement.lift import placebo as module
from training.measurement.lift.placebo import placebo


def test_splits_of_the_control_items_find_a_lift_as_often_as_they_should() -> None:
    items, _ = counts(Shop(stores=80, lift=0.5), np.random.default_rng(0))
    found = placebo(items, 500, 60, 0.4)
    assert found["splits"] == 60
    assert found["found_a_lift"] <= 0.15
    assert abs(found["mean_lift"]["primary"]) < 0.03  # the treated items' lift is no part of it


def test_a_measurement_that_is_wrong_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with intervals a third as wide."""
    items, _ = counts(Shop(stores=80), np.random.default_rng(0))
    true = module.lift_of

    def narrow(*arguments: object, **options: object) -> dict[str, object]:
        found = true(*arguments, **options)  # type: ignore[arg-type]
        if found["primary"]:
            for bound in ("low", "high"):
                found["primary"][bound] = (
                    found["primary"]["value"] + (found["primary"][bound] - found["primary"]["value"]) / 3
                )
        return found

    monkeypatch.setattr(module, "lift_of", narrow)
    assert placebo(items, 500, 40, 0.4)["found_a_lift"] > 0.25


def test_too_few_stores_give_no_split() -> None:
    items, _ = counts(Shop(stores=80), np.random.default_rng(0))
    assert placebo(items, 1e9, 3, 0.4) == {"splits": 0, "share": 0.4, "found_a_lift": None, "mean_lift": None}
