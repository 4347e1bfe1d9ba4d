"""What a check finds: problems with their place and remedy, counted by kind, and as many examples as a reader can use.

Knows texts and counts; nothing about what is checked.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Weight = Literal["error", "left out", "note"]
WEIGHTS: dict[Weight, str] = {  # what each means for a training
    "error": "to be mended: no training starts",
    "left out": "left out: a training goes on without these groups",
    "note": "to know: no error",
}


@dataclass(frozen=True)
class Problem:
    """One thing that is not as it should be."""

    weight: Weight
    kind: str  # problems of one kind are counted together
    where: str  # file, row, id and column, as far as there are any
    remedy: str  # what to do about the kind
    what: str = ""  # the value that was found


@dataclass
class Findings:
    """All problems, of which `examples` of each kind are kept."""

    examples: int = 5
    counts: Counter[tuple[Weight, str]] = field(default_factory=Counter)
    shown: dict[tuple[Weight, str], list[Problem]] = field(default_factory=dict)

    def add(self, problems: Iterable[Problem]) -> None:
        """Counts these."""
        for problem in problems:
            key = (problem.weight, problem.kind)
            self.counts[key] += 1
            kept = self.shown.setdefault(key, [])
            if len(kept) < self.examples:
                kept.append(problem)

    def total(self, *weights: Weight) -> int:
        """How many problems have one of these weights."""
        return sum(count for (weight, _), count in self.counts.items() if weight in weights)

    def lines(self) -> list[str]:
        """The report: kinds by weight, each with its count, its remedy and its examples."""
        lines = []
        for weight, meaning in WEIGHTS.items():
            kinds = [kind for of, kind in self.shown if of == weight]
            lines += [f"{meaning}"] if kinds else []
            for kind in kinds:
                count, problems = self.counts[weight, kind], self.shown[weight, kind]
                lines.append(f"  {kind}, {count} {'time' if count == 1 else 'times'}")
                told = ""  # the remedy of several problems stands once before them
                for problem in problems:
                    lines += [f"    remedy: {problem.remedy}"] if problem.remedy != told else []
                    lines.append(f"    {problem.where}{': ' if problem.what else ''}{problem.what}")
                    told = problem.remedy
                lines += [f"    … and {count - len(problems)} more"] if count > len(problems) else []
        return lines

    def summary(self) -> str:
        """One line."""
        names: dict[Weight, str] = {"error": "to be mended", "left out": "left out", "note": "to know"}
        return ", ".join(f"{self.total(weight)} {name}" for weight, name in names.items())
