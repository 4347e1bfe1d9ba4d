"""What a gate decided and why, as a file that outlives every crash: `python -m training.retraining.gate show FILE`.

    {"kind": "offline", "live": "build/family", "candidate": "build/run/family", "verdict": "refuse",
     "reasons": ["…"], "figures": {…}, "e_value": null, "groups": 120, "merchants": 31,
     "table": "build/lake/groups", "table_version": 7, "time": "2026-11-26T07:00:00+00:00"}

Knows the form; not how anything is decided.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from contract.errors import InputError, reading
from contract.repository import write_durably
from training.common.reports import as_json

Kind = Literal["offline", "traffic"]
Decision = Literal["pass", "refuse", "promote", "roll back", "undecided"]
DECISIONS: Mapping[Kind, tuple[Decision, ...]] = {
    "offline": ("pass", "refuse"),
    "traffic": ("promote", "roll back", "undecided"),
}


class VerdictError(InputError):
    """A verdict that is out of form; names the field."""


@dataclass(frozen=True)
class Verdict:
    """What was decided about a candidate. Every decision has at least one reason, a sentence with its numbers."""

    kind: Kind
    live: str | int  # a family's folder, or a release's number
    candidate: str | int
    verdict: Decision
    reasons: tuple[str, ...]
    figures: Mapping[str, Any] = field(default_factory=dict)  # JSON values; means with their intervals
    e_value: float | None = None  # traffic: against "the candidate is no better"
    groups: int = 0  # that the decision rests on
    merchants: int = 0
    table: str = ""
    table_version: int | None = None  # of a Delta table
    time: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind) or self.verdict not in DECISIONS[self.kind]:
            raise VerdictError(f"verdict is {self.verdict!r}, which no gate of kind {self.kind!r} says")
        if not self.reasons:
            raise VerdictError(f"reasons are missing for {self.verdict!r}")

    def write(self, path: Path) -> None:
        """Replaces the file whole; after a power loss it holds this verdict or the one before."""
        write_durably(path, as_json(asdict(self)) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Verdict":
        """What `write` wrote; fields that a later version added are left out.

        Raises:
            VerdictError: the file cannot be read, or is out of form.
        """
        with reading(path, VerdictError):
            found = json.loads(path.read_text(encoding="utf-8"))
            known = {each.name: found[each.name] for each in fields(cls) if each.name in found}
            return cls(**known | {"reasons": tuple(found["reasons"])})

    def as_text(self) -> str:
        """For a reader: the decision, its reasons, and the figures line by line."""
        version = "" if self.table_version is None else f"@{self.table_version}"
        lines = [
            f"{self.verdict}: {self.kind} gate, candidate {self.candidate} against live {self.live}, {self.time}",
            f"{self.groups} groups of {self.merchants} merchants in {self.table}{version}",
        ]
        lines += [f"- {reason}" for reason in self.reasons]
        return "\n".join([*lines, *_lines(self.figures)])


def interval_text(value: Mapping[str, float | None]) -> str:
    """A mean with its interval."""
    mean, low, high = ("–" if value.get(key) is None else f"{value[key]:.3f}" for key in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def _lines(figures: Mapping[str, Any], indent: str = "  ") -> list[str]:
    lines = list[str]()
    for name, value in figures.items():
        said = name.replace("_", " ")
        if isinstance(value, Mapping) and "mean" in value and "low" in value:
            rest = {key: part for key, part in value.items() if key not in ("mean", "low", "high")}
            more = "".join(f", {key.replace('_', ' ')} {_number(part)}" for key, part in rest.items())
            lines.append(f"{indent}{said}: {interval_text(value)}{more}")
        elif isinstance(value, Mapping):
            lines += [f"{indent}{said}", *_lines(value, indent + "  ")]
        else:
            lines.append(f"{indent}{said}: {_number(value)}")
    return lines


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
