"""What is fixed before the data are looked at: what has an arm, exposure rules, windows, ages, whether chance assigns.

A plan is a JSON file with the time at which it was made; a report says its SHA-256, and how many of the events are
older than it. Knows numbers; no events.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contract.errors import reading
from training.common.reports import write_report
from training.measurement.errors import MeasurementError

if TYPE_CHECKING:
    import numpy as np

FORMAT = "perfusion-lift-plan/1"
UNITS = ("item", "viewer")  # what has an arm
LEAST = {  # impressions, clicks, impressions, orders: about twenty events where rates are usual ones
    "click_through": 500,
    "conversion": 200,
    "orders_per_impression": 10_000,
    "return_rate": 50,
}


@dataclass(frozen=True)
class Plan:
    """The rules of one comparison."""

    created: str  # RFC 3339
    least: Mapping[str, int] = field(
        default_factory=lambda: dict(LEAST)
    )  # metric → exposure a store needs in both arms; by viewer, the arms themselves
    window_s: int = 1_800  # a viewer's next impression or click of an item counts after that time
    age_days: tuple[int, ...] = (7, 28, 90)  # bounds of items' ages in the table against novelty
    surfaces: tuple[str, ...] = ("search", "recommendation")  # each has a click-through rate of its own
    treated_share: float | None = None  # of items or viewers, where chance assigns them; None: it is observational
    draws: int = 2_000  # of stores
    confidence: float = 0.95
    unit: str = "item"  # what is in an arm: items, compared within stores, or viewers
    sha256: str = field(default="", compare=False)  # of the file; not part of it

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise MeasurementError(f"unit must be {' or '.join(UNITS)}, got {self.unit!r}")
        if self.least.keys() != LEAST.keys() or min(*self.least.values(), self.draws) < 1 or self.window_s < 0:
            raise MeasurementError(
                f"least must give {', '.join(LEAST)} 1 or more each, draws be 1 or more, window_s 0 or more"
            )
        if sorted(set(self.age_days)) != list(self.age_days) or min(self.age_days, default=1) < 1:
            raise MeasurementError(f"age_days must ascend from 1 or more, got {list(self.age_days)}")
        if self.treated_share is not None and not 0 < self.treated_share < 1:
            raise MeasurementError(f"treated_share must lie between 0 and 1, got {self.treated_share}")
        if datetime.fromisoformat(self.created).tzinfo is None:
            raise MeasurementError(f"the plan's time {self.created!r} lacks its time zone")

    def told(self, time_us: "np.ndarray") -> dict[str, Any]:
        """What a report says of the plan, on events of these times, in microseconds since 1970."""
        fixed_us = datetime.fromisoformat(self.created).timestamp() * 1e6
        return {"sha256": self.sha256, "created": self.created, "events_before_it": int((time_us < fixed_us).sum())}

    def write(self, path: Path) -> None:
        """Writes the plan, once.

        Raises:
            MeasurementError: there is one already.
        """
        if path.exists():
            raise MeasurementError(f"{path} exists: a plan is not changed once it is fixed")
        write_report(path, {"format": FORMAT} | {name: of for name, of in asdict(self).items() if name != "sha256"})

    @classmethod
    def read(cls, path: Path) -> "Plan":
        """A plan's file.

        Raises:
            MeasurementError: it cannot be used; says why.
        """
        with reading(path, MeasurementError):
            data = path.read_bytes()
            found: dict[str, Any] = json.loads(data)
            if found.pop("format") != FORMAT:
                raise MeasurementError(f"is no {FORMAT}")
            if odd := found.keys() - (cls.__dataclass_fields__.keys() - {"sha256"}):
                raise MeasurementError(f"there is no setting {min(odd)!r}")
            found |= {name: tuple(found[name]) for name in ("age_days", "surfaces") if name in found}
            return cls(**found, sha256=hashlib.sha256(data).hexdigest())
