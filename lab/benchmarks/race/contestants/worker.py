"""How the runner speaks with a contestant in a process of its own: a line of JSON for each order and each answer.

An order is {"rounds": [numbers], "at_once": n, "folder": where pictures go or null}; its answer {"pictures": n}. The
first line is {"ready": {...}}, with what the contestant says of itself.
"""

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from lab.benchmarks.race.job import Round, keep, round_of

Draw = Callable[[Sequence[Round]], Sequence[Sequence[bytes]]]  # rounds -> PNGs of each


def work(draw: Draw, about: dict[str, Any]) -> None:
    """Does orders until there are no more; so many rounds at once as the order says go to one call of `draw`."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    print(json.dumps({"ready": about}), file=answers)
    for line in sys.stdin:
        order = json.loads(line)
        numbers, at_once, pictures = order["rounds"], order["at_once"], 0
        for first in range(0, len(numbers), at_once):
            part = numbers[first : first + at_once]
            for number, pngs in zip(part, draw([round_of(number) for number in part]), strict=True):
                pictures += len(pngs)
                keep(order["folder"], number, pngs)
        print(json.dumps({"pictures": pictures}), file=answers)
