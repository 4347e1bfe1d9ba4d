"""Labels: how a kind of phrases or a profile feature, and each of its words, is called in another language.

They are for people alone. Models, tables and profiles have the canonical words, so vocabularies and feature schemas
that differ in labels alone are equal. Knows the form of labels; not what their words mean.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from contract.errors import InputError
from contract.prompts import folded

_LANGUAGE = re.compile("[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")


@dataclass(frozen=True)
class Labels:
    """In one language."""

    language: str  # BCP 47, such as "zh" or "pt-BR"
    name: str  # of the kind or the feature
    words: tuple[str, ...] = ()  # of the phrases, or of the feature's vocabulary, in their order


def problem_of(labels: Sequence[Labels], n_words: int) -> str | None:
    """What is wrong with the labels of one kind or feature, which has so many words; None: nothing."""
    if twice := repeated(each.language.casefold() for each in labels):
        return f"the language {twice!r} is there twice"
    for each in labels:
        if not _LANGUAGE.fullmatch(each.language):
            return f"{each.language!r} is no language tag, such as 'zh' or 'pt-BR'"
        if len(each.words) != n_words:
            return f"{len(each.words)} labels of {n_words} words in {each.language!r}"
        for text in (each.name, *each.words):
            if has_half_a_character(text):
                return f"the label {text!r} has half a character"
            if not folded(text):
                return f"the label {text!r} shows nothing"
        if twice := repeated(map(folded, each.words)):
            return f"the label {twice!r} is there twice in {each.language!r}"
    return None


def repeated_name(of_all: Iterable[Sequence[Labels]]) -> str | None:
    """The name that two of several kinds or features have in one language."""
    return repeated(f"{folded(each.name)} ({each.language.casefold()})" for labels in of_all for each in labels)


def labels_from_json(data: Any, name: str, words: str, at: str, error: type[InputError]) -> tuple[Labels, ...]:
    """What `labels_to_json` gave.

    Args:
        name: the key of the name.
        words: the key of the words, which may be left out where there are none.
        at: whose labels they are, for the error.

    Raises:
        InputError: of the class `error`; it is out of form.
    """
    form = f'{at}: labels are {{"<language>": {{"{name}": …, "{words}": […]}}}}'
    if not isinstance(data, dict):
        raise error(form)
    found = []
    for language, entry in data.items():
        if not isinstance(entry, dict) or not {name} <= entry.keys() <= {name, words}:
            raise error(form)
        texts = entry.get(words, [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in (entry[name], *texts)):
            raise error(form)
        found.append(Labels(language, entry[name], tuple(texts)))
    return tuple(found)


def labels_to_json(labels: Iterable[Labels], name: str, words: str) -> dict[str, Any]:
    """In the files' form, by language."""
    return {each.language: {name: each.name} | ({words: list(each.words)} if each.words else {}) for each in labels}


def has_half_a_character(text: str) -> bool:
    """Whether this text is none: JSON can write half of a pair of surrogates."""
    return any("\ud800" <= character <= "\udfff" for character in text)


def repeated(texts: Iterable[str]) -> str | None:
    """The first text that is there more than once."""
    return next((text for text, count in Counter(texts).items() if count > 1), None)
