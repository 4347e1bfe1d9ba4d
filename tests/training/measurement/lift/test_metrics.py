"""What each metric counts by what, and how exposure is adjusted."""

import numpy as np
import pytest

from lab.shop.events import Visits, table
from tests.training.measurement.lift.shop_events import events
from training.measurement.lift.events import Events, events_of
from training.measurement.lift.measuring import lift_of
from training.measurement.lift.metrics import age_bins, counted, expected_exposure, metrics_of


@pytest.fixture(scope="module")
def few() -> Events:
    return events_of(
        events(
            {}, {"surface": "recommendation"}, {"item_id": "j", "arm": "treatment"}, {},
            {"kind": "click"}, {"kind": "click", "item_id": "j", "arm": "treatment", "surface": "recommendation"},
            {"kind": "order", "surface": None}, {"kind": "order"}, {"kind": "return", "units": 3},
        ),
        1_800,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "counts", "exposure"),
    [
        ("click_through", {"i": 1, "j": 1}, {"i": 3, "j": 1}),
        ("click_through:search", {"i": 1, "j": 0}, {"i": 2, "j": 1}),
        ("click_through:elsewhere", {"i": 0, "j": 0}, {"i": 0, "j": 0}),
        ("conversion", {"i": 2, "j": 0}, {"i": 1, "j": 1}),
        ("orders_per_impression", {"i": 2, "j": 0}, {"i": 3, "j": 1}),
        ("return_rate", {"i": 1, "j": 0}, {"i": 2, "j": 0}),
    ],
)
def test_a_metric_counts_one_kind_by_another(
    few: Events, name: str, counts: dict[str, int], exposure: dict[str, int]
) -> None:
    (metric,) = (of for of in metrics_of(("search", "elsewhere")) if of.name == name)
    found = counted(few, metric)
    assert dict(zip(few.items, found.events, strict=True)) == counts
    assert dict(zip(few.items, found.exposure, strict=True)) == exposure
    assert metric.family == name.partition(":")[0]


def test_ages_fall_into_bins_that_begin_at_their_bounds() -> None:
    at = [-3 * 86_400, -3 * 86_400 - 1, 0, 18 * 86_400]
    found = events_of(events(*({"at": second, "viewer_hash": None} for second in at)), 0)
    assert age_bins(found, (7, 28)).tolist() == [0, 1, 1, 2]


def test_items_of_one_place_and_age_are_expected_to_be_alike() -> None:
    found = events_of(table(Visits(stores=6, novelty=0, quality=0, again=0), np.random.default_rng(0)), 0)
    click_through = metrics_of(())[0]
    one_place = Events(**{**vars(found), "position": 0 * found.position, "age_days": 0 * found.age_days + 100,
                          "surface": 0 * found.surface})  # fmt: skip
    assert expected_exposure(one_place, click_through) == pytest.approx(counted(found, click_through).exposure)


def test_adjusting_takes_away_most_of_what_a_shop_does_that_shows_new_items_first() -> None:
    visits = Visits(stores=40, impressions=2_500, ahead=0.25, younger=0.5)
    found = events_of(table(visits, np.random.default_rng(0)), 1_800)
    click_through = metrics_of(())[0]
    counts = counted(found, click_through)
    plain = lift_of(counts, 500, draws=200)
    adjusted = lift_of(counts, 500, draws=200, expected=expected_exposure(found, click_through))
    assert plain["primary"]["low"] > 0.2
    assert abs(adjusted["primary"]["value"]) < 0.25 * plain["primary"]["value"]
    assert adjusted["primary"]["low"] < 0.02
