"""Prompts: descriptive phrases joined by commas, from a garment's values, and back to the asked-for values.

Knows the market's vocabulary only; any other phrase in a prompt is ignored.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from contract.vocabulary import PhraseKind, Vocabulary
from lab.market.attributes import ATTRIBUTES, BY_KIND, KINDS, applies
from lab.market.labels import OF_KINDS

PHRASE_OF: Mapping[tuple[str, str], str] = MappingProxyType(
    {(a.kind, value): phrase for a in ATTRIBUTES for value, phrase in zip(a.values, a.phrases, strict=True)}
)
MEANING_OF: Mapping[str, tuple[str, str]] = MappingProxyType({phrase: meaning for meaning, phrase in PHRASE_OF.items()})


def parse(prompt: str) -> dict[str, str]:
    """The attribute values a prompt asks for; of two phrases of one kind the last one counts."""
    phrases = [phrase.strip().lower() for phrase in prompt.split(",")]
    return dict(MEANING_OF[phrase] for phrase in phrases if phrase in MEANING_OF)


def write(asked: Mapping[str, str], rng: np.random.Generator | None = None) -> str:
    """The prompt asking for these values: the category first, or all shuffled when given `rng`."""
    phrases = [PHRASE_OF[kind, asked[kind]] for kind in KINDS if kind in asked]
    if rng is not None:
        rng.shuffle(phrases)
    return ",".join(phrases)


def vocabulary() -> Vocabulary:
    """The market's; phrases in the order of the values they ask for."""
    kinds = []
    for attribute in ATTRIBUTES:
        kind = attribute.kind
        tops = [{"category": category, "sleeve": "long"} for category in BY_KIND["category"].values]
        needed = [_needed("category", [g["category"] for g in tops if applies(kind, g)])]
        needed += [_needed("sleeve", [s for s in BY_KIND["sleeve"].values if applies(kind, tops[0] | {"sleeve": s})])]
        kinds.append(
            PhraseKind(kind, attribute.phrases, tuple(phrases for phrases in needed if phrases), OF_KINDS[kind])
        )
    return Vocabulary(tuple(kinds))


def _needed(kind: str, values: list[str]) -> tuple[str, ...]:
    """The phrases of these values; none if they are all that there are."""
    return () if len(values) == len(BY_KIND[kind].values) else tuple(PHRASE_OF[kind, value] for value in values)


def ask_for(garment: Mapping[str, str], rng: np.random.Generator, fewest: int = 2, most: int = 6) -> dict[str, str]:
    """Some of a garment's values, always with its category, as a merchant would name them."""
    others = [kind for kind in KINDS if kind in garment and kind != "category"]
    count = int(rng.integers(fewest - 1, most))
    chosen = rng.choice(others, size=min(count, len(others)), replace=False).tolist()
    return {"category": garment["category"], **{kind: garment[kind] for kind in chosen}}
