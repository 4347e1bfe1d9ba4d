"""The simulated shop's table is read as it is meant."""

import numpy as np
import pytest

from lab.shop.events import Visits, redelivered, table
from training.measurement.lift.events import CLICK, IMPRESSION, ORDER, RETURN, events_of


def test_every_event_has_its_cause_and_comes_later() -> None:
    events = events_of(table(Visits(stores=10), np.random.default_rng(0)), 1_800)
    sizes = [(events.kind == kind).sum() for kind in (IMPRESSION, CLICK, ORDER, RETURN)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[3] > 0
    assert (events.age_days >= 0).all()


def test_the_planted_lift_is_in_the_rates() -> None:
    visits = Visits(stores=30, impressions=8_000, lift=0.3, quality=0.0, again=0.0)
    events = events_of(table(visits, np.random.default_rng(0)), 0)
    treated = events.treated_of[events.item]
    rate = [((events.kind == CLICK) & (treated == arm)).sum() / ((events.kind == IMPRESSION) & (treated == arm)).sum()
            for arm in (False, True)]  # fmt: skip
    assert rate[1] / rate[0] == pytest.approx(1.3, abs=0.06)


def test_high_places_and_new_items_get_more_clicks() -> None:
    events = events_of(table(Visits(stores=40), np.random.default_rng(0)), 0)

    def rate(where: np.ndarray) -> float:
        return float(((events.kind == CLICK) & where).sum() / ((events.kind == IMPRESSION) & where).sum())

    assert rate(events.position < 4) > 1.5 * rate(events.position > 12)
    assert rate(events.age_days < 7) > 1.1 * rate(events.age_days > 60)


def test_what_is_delivered_or_loaded_twice_counts_once() -> None:
    rng = np.random.default_rng(0)
    once = table(Visits(stores=10, again=0.0), rng)
    again = redelivered(once, 0.1, rng)
    assert 0.08 * len(once) < len(again) - len(once) < 0.12 * len(once)
    assert len(events_of(again, 1_800).kind) == len(once)
    loaded = events_of(table(Visits(stores=10, again=0.2), np.random.default_rng(1)), 1_800)
    assert loaded.dropped["within_window"] == pytest.approx(0.2 * (loaded.kind == IMPRESSION).sum(), rel=0.05)
