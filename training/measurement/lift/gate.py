"""The A/A gate: no lift is reported by estimators that find one where there is none.

Whoever has a simulation writes a gate report (lab.shop.check does): whether, in shops whose lift is known, the primary
estimator was unbiased and its intervals covered the truth. It says what the estimators make of one fixed data set, the
probe. A lift is computed only if the report says "passed" and this code makes the same of the probe: then it is the
code that was tested. The estimator by viewers has a verdict and a probe of its own. Knows gate reports; no simulation.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from contract.errors import reading
from training.common.reports import write_report
from training.measurement.errors import MeasurementError
from training.measurement.lift.counts import ItemCounts
from training.measurement.lift.measuring import lift_of
from training.measurement.lift.viewer_events import ViewerCounts
from training.measurement.lift.viewers import viewer_lift

FORMAT = "perfusion-lift-gate/1"
GATE = Path("build/eval/lift.json")
_REMEDY = "run `make eval-lift`, or measure with --ungated, which the report then says"


def probe() -> list[float]:
    """What the estimators make of forty small stores."""
    item = np.arange(320)
    store, treated = item // 8, item % 8 < 3
    exposure = 200.0 + 50 * (item % 7) + 20 * store
    events = (item * 37 % 11) + exposure // 60
    found = lift_of(ItemCounts(store, treated, events, exposure), 900, draws=200)
    return [found[name][part] for name in ("primary", "pooled", "paper") for part in ("value", "low", "high")]


def viewer_probe() -> list[float]:
    """What the estimator by viewers makes of three hundred of them."""
    viewer = np.arange(300)
    exposure = 1.0 + viewer % 23
    found = viewer_lift(ViewerCounts(viewer % 5 < 2, np.minimum(exposure, viewer * 7 % 4), exposure), 1)["lift"]
    return [found["value"], found["low"], found["high"], *found["fieller"].values(), found["design_effect"]]


def write_gate(path: Path, passed: bool, findings: dict[str, Any], by_viewer: dict[str, Any] | None = None) -> None:
    """A gate report of this code.

    Args:
        by_viewer: `passed`, `says` and findings of the estimator by viewers.
    """
    viewers = {} if by_viewer is None else {"by_viewer": by_viewer | {"probe": viewer_probe()}}
    write_report(path, {"format": FORMAT, "passed": passed, "probe": probe()} | findings | viewers)


def check_gate(path: Path, unit: str = "item") -> dict[str, Any]:
    """The gate report, or what it says of the estimator by viewers.

    Raises:
        MeasurementError: there is none, it did not pass, or it is of other estimators.
    """
    if not path.is_file():
        raise MeasurementError(f"there is no A/A gate report at {path}: {_REMEDY}")
    with reading(path, MeasurementError):
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if found["format"] != FORMAT:
            raise MeasurementError(f"is {found['format']!r}, not {FORMAT!r}")
        if unit == "viewer":
            if "by_viewer" not in found:
                raise MeasurementError(f"says nothing of lifts by viewers: {_REMEDY}")
            found = found["by_viewer"]
        made = viewer_probe() if unit == "viewer" else probe()
        same = np.allclose(found["probe"], made, rtol=1e-6, atol=1e-9)
    if not found["passed"]:
        raise MeasurementError(f"the A/A gate of {path} did not pass: the estimators are not to be trusted")
    if not same:
        raise MeasurementError(f"the A/A gate of {path} tested other estimators than these: {_REMEDY}")
    return found
