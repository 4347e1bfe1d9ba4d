"""Wishes: the phrases that are added to a prompt for a merchant, because what words can say is said in words.

For each kind of phrase that a prompt leaves open, the one with the highest favour is added. Favours are disturbed by a
little noise of the candidate's own, so that what a merchant clearly favours stays and what they hardly care about
varies within a group. Knows phrases and numbers; not where favours come from or what reads the prompt.
"""

from collections.abc import Collection, Iterator

import numpy as np
from numpy.typing import NDArray

from contract.prompts import folded, phrases_of
from contract.vocabulary import PhraseKind, Vocabulary

VARIETY = 0.15  # of the noise: favours are logits of a pick, whose own noise has 1 (docs/runs.md)
EXPLORING_VARIETY = 1.0  # as much as a pick's own noise: phrases are shown about as often as they would be picked
LEAST_FAVOUR = 0.2  # a merchant who favours no phrase by as much is unknown, and nothing is wished for them

Favours = NDArray[np.floating]  # (V,), the mean of each kind is zero


def wishes(
    vocabulary: Vocabulary,
    prompt: str,
    favours: Favours,
    noise: Favours | None = None,
    refused: Collection[str] = (),
    variety: float = VARIETY,
) -> list[str]:
    """Phrases to add to a prompt, those first that are favoured most.

    None for a prompt without category, and none for an unknown merchant. A kind with one phrase is no choice. In a
    refused phrase's place the next best of its kind is added, and none of a kind that is refused altogether.

    Args:
        noise: standard Gumbel, one value a phrase  # (V,); without it, everybody gets their favourites.
        refused: phrases that the merchant does not want added, compared without regard to case; one may hold several.
        variety: the scale of the noise.
    """
    said = vocabulary.asked(prompt)
    if vocabulary.category.name not in said or not is_known(vocabulary, favours):
        return []
    disturbed = favours if noise is None else favours + variety * noise
    barred = {folded(phrase) for text in refused for phrase in phrases_of(text)}
    found = list[tuple[float, str]]()
    for kind, of_kind in _by_kind(vocabulary, disturbed):
        places = [n for n, phrase in enumerate(kind.phrases) if folded(phrase) not in barred]
        if kind.name in said or len(kind.phrases) < 2 or not places or not vocabulary.could_have(kind, said):
            continue
        best = max(places, key=lambda n: of_kind[n])
        said = {**said, kind.name: folded(kind.phrases[best])}
        found.append((float(of_kind[best]), kind.phrases[best]))
    return [phrase for _, phrase in sorted(found, key=lambda wish: -wish[0])]


def is_known(vocabulary: Vocabulary, favours: Favours) -> bool:
    """Whether anything is known of a merchant: some phrase after the categories is favoured clearly."""
    return bool(favours[len(vocabulary.category.phrases) :].max(initial=-np.inf) >= LEAST_FAVOUR)


def with_wishes(prompt: str, wished: Collection[str]) -> str:
    """The prompt that the text encoder reads."""
    return ",".join([prompt, *wished])


def _by_kind(vocabulary: Vocabulary, favours: Favours) -> Iterator[tuple[PhraseKind, Favours]]:
    """Each kind with its part of (V,)."""
    start = 0
    for kind in vocabulary.kinds:
        yield kind, favours[start : start + len(kind.phrases)]
        start += len(kind.phrases)
