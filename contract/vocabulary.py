"""The professional vocabulary, phrases.json: the phrases that merchants design with, kind by kind.

    [{"kind": "category", "phrases": ["dress", "skirt"]},
     {"kind": "sleeve", "phrases": ["sleeveless", "long sleeves"], "only_with": [["dress"]],
      "labels": {"zh": {"kind": "袖长", "phrases": ["无袖", "长袖"]}}}]

The first kind says what is designed, its category. Phrases of a kind exclude each other. `only_with` has lists of
phrases, each list of one kind that stands before: a garment that has this kind has one of them. `labels` says what the
kind and each of its phrases are called in other languages (contract/labels.py): a prompt may have a label in a phrase's
place. Knows words only: neither pictures nor who likes what.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from contract.errors import VocabularyError, reading
from contract.labels import (
    Labels,
    has_half_a_character,
    labels_from_json,
    labels_to_json,
    problem_of,
    repeated,
    repeated_name,
)
from contract.prompts import folded, phrases_of, readable

KEYS = ("kind", "phrases", "only_with", "labels")
FORM = '{"kind": …, "phrases": […], "only_with": [[…], …], "labels": {…}}'


@dataclass(frozen=True)
class PhraseKind:
    """One kind of phrases; `only_with` as in the file."""

    name: str
    phrases: tuple[str, ...]
    only_with: tuple[tuple[str, ...], ...] = ()
    labels: tuple[Labels, ...] = field(default=(), compare=False, repr=False)  # no model knows them


@dataclass(frozen=True)
class Vocabulary:
    """All kinds, the category first.

    Raises:
        VocabularyError: there are no kinds, a kind or a phrase is there twice, a phrase cannot stand in a prompt,
            `only_with` names what is no phrase of one kind before, or a label could be another phrase.
    """

    kinds: tuple[PhraseKind, ...]

    def __post_init__(self) -> None:
        if not self.kinds:
            raise VocabularyError("there are no phrases")
        names, phrases = [kind.name for kind in self.kinds], [folded(text) for _, text in self.phrases]
        for what, found in (("kind", names), ("phrase", phrases)):
            if twice := repeated(found):
                raise VocabularyError(f"the {what} {twice!r} is there twice")
        for _, text in self.phrases:
            if has_half_a_character(text):
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
        self._check_labels()

    def _check_labels(self) -> None:
        for kind in self.kinds:
            if problem := problem_of(kind.labels, len(kind.phrases)):
                raise VocabularyError(f"{kind.name}: {problem}")
        if twice := repeated_name(kind.labels for kind in self.kinds):
            raise VocabularyError(f"the label {twice} is there twice")
        meant = {folded(phrase): phrase for _, phrase in self.phrases}
        for label, phrase in self._labelled:
            if len(phrases_of(label)) > 1:
                raise VocabularyError(f"the label {label!r} has a comma, which separates the phrases of a prompt")
            if (other := meant.setdefault(folded(label), phrase)) != phrase:
                raise VocabularyError(f"the label {label!r} could be {other!r} or {phrase!r}")

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

    def to_json(self, *, labels: bool = False) -> list[dict[str, Any]]:
        """In the file's form; without labels it is what models are made of."""
        return [
            {"kind": kind.name, "phrases": list(kind.phrases)}
            | ({"only_with": [list(needed) for needed in kind.only_with]} if kind.only_with else {})
            | ({"labels": labels_to_json(kind.labels, "kind", "phrases")} if labels and kind.labels else {})
            for kind in self.kinds
        ]

    def to_text(self) -> str:
        """The content of phrases.json."""
        return json.dumps(self.to_json(labels=True), indent=1, ensure_ascii=False) + "\n"

    def write(self, path: Path) -> None:
        """The file."""
        path.write_text(self.to_text(), encoding="utf-8")

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

    @property
    def _labelled(self) -> list[tuple[str, str]]:
        """(label, its phrase) of all, in every language."""
        return [
            pair for kind in self.kinds for each in kind.labels for pair in zip(each.words, kind.phrases, strict=True)
        ]

    @cached_property
    def _phrase_of_label(self) -> Mapping[str, str]:
        """The phrase of each label, which is case-folded."""
        return {folded(label): phrase for label, phrase in self._labelled}

    def canonical(self, prompt: str) -> str:
        """The prompt with each label's phrase in its place, in the prompt's order; all else is as it is typed."""
        if not any(folded(phrase) in self._phrase_of_label for phrase in phrases_of(prompt)):
            return prompt
        return ",".join(self._phrase_of_label.get(folded(part), part) for part in readable(prompt).split(","))

    def typed(self, prompt: str, phrases: Collection[str]) -> tuple[str, ...]:
        """Of a prompt's phrases, as they are typed, those that are read as one of these; of a repeated one the first.

        Args:
            phrases: of the canonical prompt.
        """
        if not phrases:
            return ()
        read = dict[str, str]()
        for phrase in phrases_of(prompt):
            read.setdefault(folded(self.canonical(phrase)), phrase)
        wanted = set(map(folded, phrases))
        return tuple(phrase for as_read, phrase in read.items() if as_read in wanted)

    @cached_property
    def labels_of(self) -> Mapping[str, Collection[str]]:
        """The labels of each phrase that has some, in every language; both case-folded."""
        found = dict[str, set[str]]()
        for label, phrase in self._labelled:
            found.setdefault(folded(phrase), set()).add(folded(label))
        return found

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
    labels = labels_from_json(entry.get("labels", {}), "kind", "phrases", at, VocabularyError)
    return PhraseKind(entry["kind"], tuple(entry["phrases"]), tuple(map(tuple, needs)), labels)


def _are_texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) and text.strip() for text in value)
