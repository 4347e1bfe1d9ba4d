"""What a round costs on one kind of machine: a JSON file that deploy.benchmarks.capacity writes and others read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contract.errors import InputError, reading


class CapacityError(InputError):
    """Numbers that no plan can be made of; names them."""


@dataclass(frozen=True)
class Curve:
    """Seconds of a core that a batch of so many rows takes: `fixed + row · rows`, in the measured range and beyond."""

    fixed_s: float
    row_s: float

    def __post_init__(self) -> None:
        if not (self.fixed_s >= 0 and self.row_s >= 0 and self.fixed_s + self.row_s > 0):
            raise CapacityError(f"a batch takes {self.fixed_s:g} s and {self.row_s:g} s a row: no times")

    def seconds(self, rows: int) -> float:
        return self.fixed_s + self.row_s * rows

    @classmethod
    def fitted(cls, batches: Sequence[float], rows: Sequence[float], seconds: Sequence[float]) -> "Curve":
        """Least squares over runs that computed so many batches of so many rows in all, neither part below zero.

        Raises:
            CapacityError: all runs had as many rows a batch, so that no line goes through them.
        """
        n, m, s = (np.array(each, float) for each in (batches, rows, seconds))
        if np.ptp(m / n) < 1e-9:
            raise CapacityError(
                f"a line needs batches of two sizes or more; measured were {m[0] / n[0]:g} rows a batch"
            )
        fixed_s, row_s = np.linalg.lstsq(np.stack([n, m], 1), s)[0]
        if fixed_s < 0:
            return cls(0.0, float(m @ s / (m @ m)))
        if row_s < 0:
            return cls(float(n @ s / (n @ n)), 0.0)
        return cls(float(fixed_s), float(row_s))


@dataclass(frozen=True)
class Station:
    """A model: how long its batches take, and how many of them run at a time on one machine."""

    curve: Curve
    instances: int = 1
    max_rows: int = 32


@dataclass(frozen=True)
class Measured:
    """One machine: `cores` of the services, and `devices` that models run on; 0: on the same cores."""

    name: str
    cores: int
    devices: int
    stations: Mapping[str, Station]  # by the model's name
    idle_cores: float  # busy while nobody asks: health checks, brokers
    work_s: float  # of a core, a round, by everything that is no model
    step_work_s: float  # the same, a denoising step
    wait_s: float  # of a round, in which nobody works: syncs, acknowledgements
    picture_bytes: int
    event_bytes: int  # of a group and its pick on Kafka

    @property
    def free_cores(self) -> float:
        """For rounds."""
        return self.cores - self.idle_cores

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, path: Path) -> "Measured":
        """What `write` wrote.

        Raises:
            CapacityError: the file is out of form; says where.
        """
        with reading(path, CapacityError):
            said = json.loads(path.read_text(encoding="utf-8"))
            stations = {
                name: Station(Curve(**each["curve"]), each["instances"], each["max_rows"])
                for name, each in said["stations"].items()
            }
            if missing := set(MODELS_OF_A_ROUND) - stations.keys():
                raise CapacityError(f"no times of {', '.join(sorted(missing))}")
            found = cls(**said | {"stations": stations})
            if not 0 <= found.idle_cores < found.cores:
                raise CapacityError(f"idle_cores is {found.idle_cores:g}, of {found.cores} cores")
            return found

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")


MODELS_OF_A_ROUND = ("user_encoder", "text_encoder", "denoiser", "vae_decoder", "reward_text", "reward_image")


@dataclass(frozen=True)
class Phase:
    """One part of a round: rows of a model, work of a core, or a wait."""

    model: str = ""
    rows: int = 0
    work_s: float = 0.0
    wait_s: float = 0.0


def round_of(measured: Measured, candidates: int, steps: int) -> Sequence[Phase]:
    """A round's phases, one after the other."""
    half = Phase(work_s=measured.work_s / 2)
    step = (Phase(work_s=measured.step_work_s), Phase("denoiser", candidates))
    return (
        half, Phase("user_encoder", 1), Phase("text_encoder", candidates + 2), *(step * steps),
        Phase("vae_decoder", candidates), Phase("reward_text", 1), Phase("reward_image", candidates), half,
        Phase(wait_s=measured.wait_s),
    )  # fmt: skip
