"""In which order one rater sees their pictures: by chance from a stored seed, pictures of a set apart, repeats late.

Knows pictures by their ids; not what they show or how they were made.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

_TRIES = 50  # shufflings, of which the one with the fewest neighbours of one set is taken


def order(set_of: Mapping[str, int], seed: int) -> list[str]:
    """The pictures of `set_of` (picture → set; gold pictures have sets of their own), neighbours of different sets.

    Where that cannot be, as few neighbours of one set as were found. The same seed gives the same order.
    """
    rng = np.random.default_rng(seed)
    pictures = sorted(set_of)
    best: list[str] = []
    least = len(pictures) + 1
    for _ in range(_TRIES):
        tried = [pictures[n] for n in rng.permutation(len(pictures))]
        _part(tried, set_of)
        touching = sum(set_of[a] == set_of[b] for a, b in pairwise(tried))
        if touching < least:
            best, least = tried, touching
        if least == 0:
            break
    return best


def _part(pictures: list[str], set_of: Mapping[str, int]) -> None:
    """Swaps the second of two neighbours of one set with a later picture of another."""
    for place in range(1, len(pictures)):
        if set_of[pictures[place]] == set_of[pictures[place - 1]]:
            later = [n for n in range(place + 1, len(pictures)) if set_of[pictures[n]] != set_of[pictures[place]]]
            if later:
                pictures[place], pictures[later[0]] = pictures[later[0]], pictures[place]


def with_repeats(pictures: Sequence[str], repeatable: Sequence[str], share: float, gap: int, seed: int) -> list[str]:
    """The list with a `share` of `repeatable`, one at least, shown a second time, `gap` other pictures later.

    Those shown early are repeated, so that the gap fits. In a list that is too short they come at its end.
    """
    rng = np.random.default_rng([seed, 1])
    wanted = min(len(repeatable), max(1, round(share * len(repeatable)))) if repeatable else 0
    place = {picture: n for n, picture in enumerate(pictures)}
    fitting = [picture for picture in repeatable if place[picture] + gap < len(pictures)]
    pool = sorted(fitting) if len(fitting) >= wanted else sorted(repeatable, key=place.__getitem__)[:wanted]
    again = [pool[n] for n in sorted(rng.choice(len(pool), wanted, replace=False))] if wanted else []
    shown = list(pictures)
    for picture in again:
        earliest = min(shown.index(picture) + gap + 1, len(shown))
        shown.insert(int(rng.integers(earliest, len(shown) + 1)), picture)
    return shown
