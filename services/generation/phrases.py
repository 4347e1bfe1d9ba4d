"""Which phrases to suggest for a prompt, and how they are scored. Pure functions; no models, no I/O.

The score of a phrase is the reward model's cosine between the prompt with the phrase added, as this user means it, and
the mean of pictures that did well (see suggestions.py for which): the reward that such a picture would get for that
prompt. It is a first, honest measure: it knows what recent pictures show, not what was never painted.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.runtime.release import PhraseKind


@dataclass(frozen=True)
class Phrase:
    """One phrase of the vocabulary."""

    kind: str
    text: str


@dataclass(frozen=True)
class Suggestion:
    """A phrase to add, and how well it suits."""

    phrase: Phrase
    score: float


def phrases_of(prompt: str) -> list[str]:
    """A prompt's phrases, without blanks around them and empty ones."""
    return [phrase.strip() for phrase in prompt.split(",") if phrase.strip()]


def extended(prompt: str, phrase: str) -> str:
    """The prompt with a phrase added."""
    return ",".join([*phrases_of(prompt), phrase])


def fitting(vocabulary: Sequence[PhraseKind], prompt: str, prefix: str) -> list[Phrase]:
    """Phrases that begin with the prefix, or have a word that does, and are not in the prompt.

    Without a prefix, kinds that the prompt already speaks of are left out, since phrases of a kind exclude each other.
    With one, the user has said what they want.
    """
    present = {phrase.casefold() for phrase in phrases_of(prompt)}
    typed = prefix.strip().casefold()
    found: list[Phrase] = []
    for kind in vocabulary:
        if not typed and any(phrase.casefold() in present for phrase in kind.phrases):
            continue
        found += [
            Phrase(kind.kind, phrase)
            for phrase in kind.phrases
            if phrase.casefold() not in present and _completes(phrase.casefold(), typed)
        ]
    return found


def _completes(phrase: str, typed: str) -> bool:
    return phrase.startswith(typed) or f" {typed}" in phrase or f"-{typed}" in phrase


def scores(texts: NDArray[np.float32], pictures: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine of each text  # (P, e), unit length  with the mean picture of  # (N, e).  Returns  # (P,)"""
    mean = pictures.mean(axis=0)
    length = float(np.linalg.norm(mean))
    cosines: NDArray[np.float32] = texts @ (mean / length if length > 0 else mean)
    return cosines


def best(phrases: Sequence[Phrase], scored: Sequence[float], limit: int) -> list[Suggestion]:
    """The best-scored phrases; equal ones in the vocabulary's order."""
    order = sorted(range(len(phrases)), key=lambda i: -scored[i])
    return [Suggestion(phrases[i], float(scored[i])) for i in order[:limit]]
