"""Which phrases to suggest for a prompt, and how they are scored. Pure functions; no models, no I/O.

A phrase's score estimates the reward, to this user and for the prompt as it is, of a picture with the phrase minus the
mean over its kind's phrases. The picture does not exist yet. The text embedding of the prompt with the phrase, for an
unknown merchant, stands in its place, since texts and their pictures have near embeddings. The user enters by the
personal embedding of the prompt without the phrase. The two must not both be personal: the reward model is trained to
compare pictures for one prompt, never two prompts, and two personal embeddings rank a user's favourites last
(docs/results.md).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from contract.prompts import folded, has_word_with, phrases_of
from contract.vocabulary import PhraseKind, Vocabulary


@dataclass(frozen=True)
class Phrase:
    """One phrase of the vocabulary."""

    kind: str
    text: str


@dataclass(frozen=True)
class Suggestion:
    """A phrase to add, and its score."""

    phrase: Phrase
    score: float


def extended(prompt: str, phrase: str) -> str:
    """The prompt with a phrase added."""
    return ",".join([*phrases_of(prompt), phrase])


def without(prompt: str, kind: PhraseKind) -> str:
    """The prompt without its phrases of a kind."""
    return ",".join(phrase for phrase in phrases_of(prompt) if folded(phrase) not in _folded(kind))


def fitting(vocabulary: Vocabulary, prompt: str, prefix: str) -> list[Phrase]:
    """Phrases of which a word begins with the prefix, their own or a label's, and which are not in the prompt.

    Without a prefix, kinds that the prompt already names are left out, since phrases of a kind exclude each other, and
    so are phrases that contradict it: sleeves for trousers, trousers for sleeves. With a prefix, nothing else is left
    out: the user asks for these phrases.
    """
    present = set(map(folded, phrases_of(vocabulary.canonical(prompt))))
    typed, accepted = folded(prefix), _contradictions(vocabulary, present)

    def fits(kind: PhraseKind, phrase: str) -> bool:
        called = (phrase, *vocabulary.labels_of.get(phrase, ()))
        if phrase in present or not any(has_word_with(each, typed) for each in called):
            return False
        in_place = _contradictions(vocabulary, present | {phrase}) <= accepted and not present & _folded(kind)
        return bool(typed) or in_place

    return [
        Phrase(kind.name, phrase) for kind in vocabulary.kinds for phrase in kind.phrases if fits(kind, folded(phrase))
    ]


def _contradictions(vocabulary: Vocabulary, said: set[str]) -> set[tuple[str, int]]:
    """(kind, place in `only_with`) of named kinds whose needed kind is named by another phrase than those it needs."""
    found = set()
    for kind in (kind for kind in vocabulary.kinds if said & _folded(kind)):
        for place, (of, needed) in enumerate(vocabulary.needed_by(kind)):
            said_of_it = {phrase for phrase in said if vocabulary.kind_of.get(phrase) == of}
            if said_of_it and not said_of_it & needed:
                found.add((kind.name, place))
    return found


def _folded(kind: PhraseKind) -> set[str]:
    return set(map(folded, kind.phrases))


def gains(
    prompt: NDArray[np.float32], extended_prompts: NDArray[np.float32], kinds: Sequence[PhraseKind], logit_scale: float
) -> dict[Phrase, float]:
    """The gain of each phrase over the mean of its kind, in units of the reward; a kind's only phrase gains 0.

    Args:
        prompt: its text embedding for the user, unit length  # (e,)
        extended_prompts: of the prompt with each phrase of each kind, for an unknown merchant  # (P, e)
        logit_scale: the reward of a cosine of 1.
    """
    cosines, at, found = extended_prompts @ prompt, 0, {}
    for kind in kinds:
        of_kind = cosines[at : at + len(kind.phrases)]
        at += len(kind.phrases)
        for phrase, cosine in zip(kind.phrases, of_kind, strict=True):
            found[Phrase(kind.name, phrase)] = logit_scale * float(cosine - of_kind.mean())
    return found


def best(phrases: Sequence[Phrase], scored: Sequence[float], limit: int) -> list[Suggestion]:
    """The best-scored phrases; equal ones in the vocabulary's order."""
    order = sorted(range(len(phrases)), key=lambda i: -scored[i])
    return [Suggestion(phrases[i], float(scored[i])) for i in order[:limit]]
