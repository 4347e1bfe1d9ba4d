"""A shop's events where chance assigned viewers, not items: what each viewer did, by the arm that they were in.

The same tables as in events.py, but `arm` is the viewer's: what a ShopEvent's own `arm` is. A viewer is a viewer_hash.
Who is compared are viewers with an impression that counts: the treatment reaches nobody before. Nothing of what they
did later decides whether they are compared. Left out, and counted, are events of nobody (no viewer_hash), of viewers in
no arm, and of viewers without an impression. Knows tables; no estimators.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from training.measurement.errors import MeasurementError
from training.measurement.lift.events import ARMS, IMPRESSION, Once, check_present, coded, read_table
from training.measurement.lift.metrics import Metric

COLUMNS = ("event_id", "kind", "item_id", "surface", "create_time", "viewer_hash")


@dataclass(frozen=True, eq=False)
class ViewerCounts:
    """What each viewer did, a row a viewer.

    treated   bool (V,)
    events    float (V,), what is counted
    exposure  float (V,), what it is counted by
    """

    treated: np.ndarray
    events: np.ndarray
    exposure: np.ndarray


@dataclass(frozen=True, eq=False)
class ViewerEvents:
    """Events that count of viewers who are compared, a row an event, in the order of time.

    kind, surface, viewer   int (N,), surface −1 where there is none
    time_us                 int (N,), since 1970
    surfaces                names by number
    treated_of              bool (V,), of every viewer
    dropped                 how many events did not count, and why
    """

    kind: np.ndarray
    surface: np.ndarray
    viewer: np.ndarray
    time_us: np.ndarray
    surfaces: list[str]
    treated_of: np.ndarray
    dropped: dict[str, int]

    def counted(self, metric: Metric) -> ViewerCounts:
        """A metric's counts of every viewer."""
        there = np.ones(len(self.kind), bool)
        if metric.surface is not None:
            number = self.surfaces.index(metric.surface) if metric.surface in self.surfaces else -2
            there = self.surface == number
        return ViewerCounts(self.treated_of, *(self._of(there & (self.kind == n)) for n in (metric.counted, metric.by)))

    def per_viewer(self, kind: int) -> ViewerCounts:
        """Events of a kind by viewers: an arm cannot change what it is counted by."""
        return ViewerCounts(self.treated_of, self._of(self.kind == kind), np.ones(len(self.treated_of)))

    def _of(self, where: np.ndarray) -> np.ndarray:
        return np.bincount(self.viewer[where], minlength=len(self.treated_of)).astype(float)


def read_viewer_events(
    path: Path, window_s: int, arms: dict[str, str] | None = None, *, others: bool = True
) -> ViewerEvents:
    """All events of a table; without `others`, those of viewers that are in no arm are left out and counted.

    Args:
        arms: viewer_hash → arm, in the place of the column.

    Raises:
        MeasurementError: a column is missing, or a value that has to be there; a viewer has two arms, or none.
    """
    table = read_table(path, [*COLUMNS, *([] if arms else ["arm"])], "viewers")
    return viewer_events_of(table, window_s, arms, others=others)


def viewer_events_of(
    table: pa.Table, window_s: int, arms: dict[str, str] | None = None, *, others: bool = True
) -> ViewerEvents:
    """The events of a table in memory, as `read_viewer_events`."""
    check_present(table, ("event_id", "kind", "item_id", "create_time"))
    dropped = {"without_viewer": table["viewer_hash"].null_count}
    table = table.filter(pc.is_valid(table["viewer_hash"]))
    arm = _arms(table, arms)
    in_none = ~np.isin(arm, ARMS)
    if in_none.any() and others:
        row = int(np.flatnonzero(in_none)[0])
        raise MeasurementError(
            f"viewer {table['viewer_hash'][row].as_py()!r}: their arm is {arm[row]}; it must be {' or '.join(ARMS)}"
        )
    dropped["without_arm"] = int(in_none.sum())
    table = table.append_column("viewer_arm", pa.array(arm)).filter(pa.array(~in_none))
    once = Once.of(table, window_s)
    treated = _of_viewers(once)
    is_seen = np.zeros(len(once.viewers), bool)
    is_seen[once.viewer[once.counts & (once.kind == IMPRESSION)]] = True
    kept = once.counts & is_seen[once.viewer]
    dropped |= {
        "same_event_id": once.again,
        "within_window": int((~once.counts).sum()),
        "without_impression": int((once.counts & ~kept).sum()),
    }
    number = np.cumsum(is_seen) - 1
    return ViewerEvents(
        once.kind[kept], once.surface[kept], number[once.viewer[kept]], once.time_us[kept], once.surfaces,
        treated[is_seen], dropped,
    )  # fmt: skip


def _arms(table: pa.Table, arms: dict[str, str] | None) -> np.ndarray:
    """Each event's arm as a text, "none" where there is none."""
    if arms is None:
        return np.array(table["arm"].fill_null("none").to_pylist(), object)
    return np.array([arms.get(viewer, "none") for viewer in table["viewer_hash"].to_pylist()], object)


def _of_viewers(once: Once) -> np.ndarray:
    """Whether each viewer is treated, bool (V,)."""
    value, names = coded(once.table, "viewer_arm")
    of = np.full(len(once.viewers), -1)
    of[once.viewer] = value
    if (odd := np.flatnonzero(of[once.viewer] != value)).size:
        raise MeasurementError(
            f"viewer {once.viewers[once.viewer[odd[0]]]!r} has more than one arm: if arms are the items', "
            "plan without --unit viewer"
        )
    is_treatment = np.array([name == "treatment" for name in names], bool)
    return is_treatment[of] if len(of) else np.zeros(0, bool)
