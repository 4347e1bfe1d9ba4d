"""Which phrases to suggest for a prompt, and how they are scored. Pure functions; no models, no I/O.

A phrase's score is how much more reward this user would give, for the prompt as it is, to a picture with the phrase
than to pictures with another phrase of its kind. The picture does not exist yet. What it would show stands in the
prompt with the phrase, read for nobody in particular, since texts lie where their pictures do; what the user makes of
that is the personal reading of the prompt without it. The user must not read both: the reward model has learnt to
compare pictures for one prompt and never one prompt with another, and personal readings of two rank a user's favourites
last (docs/results.md).
"""

from collections.abc import Iterable, Mapping, Sequence
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

    Without a prefix, kinds that the prompt already speaks of are left out, since phrases of a kind exclude each other,
    and so are kinds for which it leaves no place. With one, the user has said what they want.
    """
    present = {phrase.casefold() for phrase in phrases_of(prompt)}
    typed = prefix.strip().casefold()
    named = {kind: present & _folded(kind.phrases) for kind in vocabulary}
    found: list[Phrase] = []
    for kind in vocabulary:
        if not typed and (named[kind] or _without_place(kind, named)):
            continue
        found += [
            Phrase(kind.kind, phrase)
            for phrase in kind.phrases
            if phrase.casefold() not in present and _completes(phrase.casefold(), typed)
        ]
    return found


def _without_place(kind: PhraseKind, named: Mapping[PhraseKind, set[str]]) -> bool:
    """Whether the prompt names, of a kind that this one needs a phrase of, none but others."""
    return any(
        other_named and not other_named & _folded(needed)
        for needed in kind.only_with
        for other, other_named in named.items()
        if _folded(other.phrases) & _folded(needed)
    )


def _folded(phrases: Iterable[str]) -> set[str]:
    return {phrase.casefold() for phrase in phrases}


def _completes(phrase: str, typed: str) -> bool:
    return phrase.startswith(typed) or f" {typed}" in phrase or f"-{typed}" in phrase


def gains(
    prompt: NDArray[np.float32], extended_prompts: NDArray[np.float32], kinds: Sequence[PhraseKind], logit_scale: float
) -> dict[Phrase, float]:
    """What each phrase gains over the mean of its kind, in units of the reward.

    Args:
        prompt: its text embedding, unit length, as the user means it  # (e,)
        extended_prompts: of the prompt with each phrase of each kind, for nobody in particular  # (P, e)
        logit_scale: the reward of a cosine of 1.
    """
    cosines, at, found = extended_prompts @ prompt, 0, {}
    for kind in kinds:
        of_kind = cosines[at : at + len(kind.phrases)]
        at += len(kind.phrases)
        for phrase, cosine in zip(kind.phrases, of_kind, strict=True):
            found[Phrase(kind.kind, phrase)] = logit_scale * float(cosine - of_kind.mean())
    return found


def best(phrases: Sequence[Phrase], scored: Sequence[float], limit: int) -> list[Suggestion]:
    """The best-scored phrases; equal ones in the vocabulary's order."""
    order = sorted(range(len(phrases)), key=lambda i: -scored[i])
    return [Suggestion(phrases[i], float(scored[i])) for i in order[:limit]]
