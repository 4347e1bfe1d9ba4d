"""The professional vocabulary, phrases.json: the phrases that merchants design with, kind by kind.

    [{"kind": "category", "phrases": ["dress", "skirt"]},
     {"kind": "sleeve", "phrases": ["sleeveless", "long sleeves"], "only_with": [["dress"]]}]

The first kind says what is designed, its category. Phrases of a kind exclude each other. `only_with` has lists of
phrases, each list of one kind that stands before: a garment that has this kind has one of them. Knows words only:
neither pictures nor who likes what.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from contract.errors import VocabularyError, reading
from contract.prompts import folded, phrases_of

KEYS = ("kind", "phrases", "only_with")
FORM = '{"kind": …, "phrases": […], "only_with": [[…], …]}'


@dataclass(frozen=True)
class PhraseKind:
    """One kind of phrases; `only_with` as in the file."""

    name: str
    phrases: tuple[str, ...]
    only_with: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Vocabulary:
    """All kinds, the category first.

    Raises:
        VocabularyError: there are no kinds, a kind or a phrase is there twice, a phrase cannot stand in a prompt, or
            `only_with` names what is no phrase of one kind before.
    """

    kinds: tuple[PhraseKind, ...]

    def __post_init__(self) -> None:
        if not self.kinds:
            raise VocabularyError("there are no phrases")
        names, phrases = [kind.name for kind in self.kinds], [folded(text) for _, text in self.phrases]
        for what, found in (("kind", names), ("phrase", phrases)):
            if twice := [text for text, count in Counter(found).items() if count > 1]:
                raise VocabularyError(f"the {what} {twice[0]!r} is there twice")
        for _, text in self.phrases:
            if any("\ud800" <= character <= "\udfff" for character in text):
                raise VocabularyError(f"the phrase {text!r} has half a character")
            if len(phrases_of(text)) > 1:
                raise VocabularyError(f"the phrase {text!r} has a comma, which separates the phrases of a prompt")
            if not folded(text):
                raise VocabularyError(f"the phrase {text!r} shows nothing")
        for number, kind in enumerate(self.kinds):
            for needed in kind.only_with:
                of = {self.kind_of.get(folded(text)) for text in needed}
                if len(of) != 1 or not of <= set(names[:number]):
                    raise VocabularyError(f"{kind.name}: only_with has {list(needed)}, not phrases of one kind before")

    @classmethod
    def read(cls, path: Path) -> "Vocabulary":
        """From phrases.json.

        Raises:
            VocabularyError: it cannot be read, or an entry is out of form.
        """
        with reading(path, VocabularyError):
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))

    @classmethod
    def from_json(cls, entries: Any) -> "Vocabulary":
        """What `to_json` gave."""
        if not isinstance(entries, list):
            raise VocabularyError(f"this is a {type(entries).__name__}, not a list of {FORM}")
        return cls(tuple(_kind(entry, f"entry {number}") for number, entry in enumerate(entries)))

    def to_json(self) -> list[dict[str, Any]]:
        """In the file's form."""
        return [
            {"kind": kind.name, "phrases": list(kind.phrases)}
            | ({"only_with": [list(needed) for needed in kind.only_with]} if kind.only_with else {})
            for kind in self.kinds
        ]

    def write(self, path: Path) -> None:
        """The file."""
        path.write_text(json.dumps(self.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")

    @property
    def phrases(self) -> list[tuple[str, str]]:
        """(kind, phrase) of all, V of them, kind by kind."""
        return [(kind.name, phrase) for kind in self.kinds for phrase in kind.phrases]

    @property
    def sizes(self) -> list[int]:
        """How many phrases each kind has."""
        return [len(kind.phrases) for kind in self.kinds]

    @property
    def category(self) -> PhraseKind:
        """The kind that says what is designed."""
        return self.kinds[0]

    @cached_property
    def kind_of(self) -> Mapping[str, str]:
        """The kind of each phrase, which is case-folded."""
        return {folded(phrase): kind for kind, phrase in self.phrases}

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The place of each phrase among all V, as it is written and case-folded."""
        found = [(place, phrase) for place, (_, phrase) in enumerate(self.phrases)]
        return {phrase: place for place, phrase in found} | {folded(phrase): place for place, phrase in found}

    def asked(self, prompt: str) -> dict[str, str]:
        """The phrase of each kind that a prompt names, case-folded; of two of one kind the last one counts.

        What is not in the vocabulary is not understood.
        """
        found = map(folded, phrases_of(prompt))
        return {self.kind_of[phrase]: phrase for phrase in found if phrase in self.kind_of}

    def needed_by(self, kind: PhraseKind) -> list[tuple[str, set[str]]]:
        """(another kind, some of its phrases, case-folded): of each a garment that has the kind has one."""
        found = [{folded(text) for text in needed} for needed in kind.only_with]
        return [(self.kind_of[next(iter(needed))], needed) for needed in found]

    def could_have(self, kind: PhraseKind, said: Mapping[str, str]) -> bool:
        """Whether a garment of which this is said, a phrase by kind, can have the kind.

        What it needs and is open stands in no way, if the garment can have that.

        Args:
            said: case-folded, as `asked` gives it.
        """
        by_name = {other.name: other for other in self.kinds}
        return all(
            said[of] in needed if of in said else self.could_have(by_name[of], said)
            for of, needed in self.needed_by(kind)
        )


def _kind(entry: Any, at: str) -> PhraseKind:
    if not isinstance(entry, dict) or not {"kind", "phrases"} <= entry.keys() <= set(KEYS):
        raise VocabularyError(f"{at} is not {FORM}")
    if not isinstance(entry["kind"], str) or not _are_texts(entry["phrases"]):
        raise VocabularyError(f"{at}: kind is one text, phrases are one or more")
    needs = entry.get("only_with", [])
    if not isinstance(needs, list) or not all(map(_are_texts, needs)):
        raise VocabularyError(f"{at}: only_with has lists of phrases")
    return PhraseKind(entry["kind"], tuple(entry["phrases"]), tuple(map(tuple, needs)))


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) and text.strip() for text in value)
