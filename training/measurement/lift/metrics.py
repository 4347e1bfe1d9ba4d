"""What is measured of a shop: each metric counts one kind of event by another.

    click_through           clicks by impressions; also of each surface of the plan, as click_through:search
    conversion              orders by clicks
    orders_per_impression   orders by impressions: unlike conversion, it does not compare only those whom an arm made
    click return_rate             returns by orders; an order counts once, whatever its units

Knows events and names; no estimators.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.measurement.lift.adjusting import cell_rates
from training.measurement.lift.counts import ItemCounts
from training.measurement.lift.events import CLICK, IMPRESSION, ORDER, RETURN, Events


@dataclass(frozen=True)
class Metric:
    """Events of one kind by those of another, on one surface or on all."""

    name: str
    counted: int
    by: int
    surface: str | None = None

    @property
    def family(self) -> str:
        """Its name on all surfaces."""
        return self.name.partition(":")[0]


def metrics_of(surfaces: Sequence[str]) -> list[Metric]:
    """All metrics, click-through first."""
    return [
        Metric("click_through", CLICK, IMPRESSION),
        *(Metric(f"click_through:{surface}", CLICK, IMPRESSION, surface) for surface in surfaces),
        Metric("conversion", ORDER, CLICK),
        Metric("orders_per_impression", ORDER, IMPRESSION),
        Metric("return_rate", RETURN, ORDER),
    ]


def counted(events: Events, metric: Metric, where: np.ndarray | None = None) -> ItemCounts:
    """The metric's counts of every item, among the events `where`, bool (N,)."""
    there = _on_surface(events, metric) if where is None else _on_surface(events, metric) & where
    of = [
        np.bincount(events.item[there & (events.kind == kind)], minlength=len(events.items)).astype(float)
        for kind in (metric.counted, metric.by)
    ]
    return ItemCounts(events.store_of, events.treated_of, *of)


def age_bins(events: Events, bounds: Sequence[int]) -> np.ndarray:
    """Of every event the bin of its item's age, int (N,): 0 below the first bound, in days."""
    return np.searchsorted(bounds, events.age_days, side="right")


def expected_exposure(events: Events, metric: Metric) -> np.ndarray:
    """Each item's exposure adjusted for surface, position and age, float (I,).

    Positions and days are taken in octaves: 0, 1 to 2, 3 to 6, and so on.
    """
    there = _on_surface(events, metric) & np.isin(events.kind, (metric.counted, metric.by))
    octaves = [np.floor(np.log2(np.maximum(of, -0.5) + 1)).astype(int) for of in (events.position, events.age_days)]
    cells = np.stack([events.surface, *octaves])[:, there]
    _, cell = np.unique(cells, axis=1, return_inverse=True)
    _, of_item = np.unique(2 * events.store_of + events.treated_of, return_inverse=True)
    item, counts = events.item[there], events.kind[there] == metric.counted
    gamma = cell_rates(of_item[item], cell, counts.astype(float), (~counts).astype(float))
    return np.bincount(item, ~counts * gamma[cell], len(events.items))


def _on_surface(events: Events, metric: Metric) -> np.ndarray:
    if metric.surface is None:
        return np.ones(len(events.kind), bool)
    number = events.surfaces.index(metric.surface) if metric.surface in events.surfaces else -2
    return np.asarray(events.surface == number)
