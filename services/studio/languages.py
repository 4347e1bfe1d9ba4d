"""The page's languages: what it says in each, and what the release calls its phrases there.

English is what the templates say; translations/LANGUAGE.po has the others. It knows texts, not who reads them.
"""

import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Literal

from babel.core import UnknownLocaleError, negotiate_locale
from babel.dates import format_datetime, format_timedelta
from babel.messages.pofile import read_po
from babel.numbers import format_currency, get_currency_precision
from perfusion.v1.release_pb2 import ReleaseInfo

from contract.prompts import folded, phrases_of

ENGLISH = "en"
NAMES = {ENGLISH: "English", "zh": "中文"}
TRANSLATIONS = Path(__file__).parent / "translations"
_BETWEEN = {ENGLISH: ", "}
_BETWEEN_ELSE = "、"
_SPANS: tuple[tuple[Literal["day", "hour", "minute", "second"], int], ...] = (
    ("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1),
)  # fmt: skip


def noted(text: str) -> str:
    """A text of the page that is said elsewhere: so translations find it."""
    return text


def decimals(currency: str) -> int:
    """How many digits of its smallest units a currency has behind the point."""
    return get_currency_precision(currency)


@dataclass(frozen=True)
class Language:
    """One of them."""

    tag: str
    texts: Mapping[str, str]

    def say(self, text: str, **values: object) -> str:
        """A text of the page, with `{name}` replaced by values."""
        found = self.texts.get(text) or text
        return string.Formatter().vformat(found, (), values) if values else found

    def joined(self, words: Iterable[str]) -> str:
        """Words in a row."""
        return _BETWEEN.get(self.tag, _BETWEEN_ELSE).join(words)

    def moment(self, seconds: float) -> str:
        """A time, in UTC."""
        return format_datetime(datetime.fromtimestamp(seconds, UTC), "medium", locale=self.tag)

    def span(self, seconds: float) -> str:
        """How long, in its two largest units: "2 days, 3 hours"; of less than a minute, seconds."""
        left = max(0, round(seconds))
        found: list[str] = []
        for unit, size in _SPANS:
            count, left = divmod(left, size)
            if count and (unit != "second" or not found):
                found.append(format_timedelta(timedelta(seconds=count * size), unit, threshold=1e9, locale=self.tag))
        return self.joined(found[:2]) or format_timedelta(timedelta(0), "second", locale=self.tag)

    def money(self, currency: str, minor_units: int) -> str:
        """An amount, such as "€19.99"."""
        amount = Decimal(minor_units).scaleb(-decimals(currency))
        return format_currency(amount, currency, locale=self.tag)


@cache
def language(tag: str) -> Language:
    """By its tag; English for one that the page does not speak."""
    if tag not in NAMES or tag == ENGLISH:
        return Language(ENGLISH, {})
    with (TRANSLATIONS / f"{tag}.po").open("rb") as file:
        catalogue = read_po(file, locale=tag)
    return Language(tag, {str(m.id): str(m.string) for m in catalogue if m.id and m.string})


def preferred(accepted: str) -> str:
    """The tag of the language that a browser's Accept-Language likes best, of those that the page speaks."""
    weighed = []
    for part in accepted.split(",")[:20]:
        tag, _, quality = part.strip().partition(";q=")
        try:
            weighed.append((-float(quality or 1), tag.strip()))
        except ValueError:
            continue
    wanted = [tag for _, tag in sorted(weighed, key=lambda each: each[0]) if tag and tag != "*"]
    try:
        return negotiate_locale(wanted, list(NAMES), sep="-") or _by_language(wanted)
    except (UnknownLocaleError, ValueError):
        return ENGLISH


def _by_language(wanted: Iterable[str]) -> str:
    """zh-Hant-TW is Chinese, too."""
    return next((tag for each in wanted if (tag := each.partition("-")[0].lower()) in NAMES), ENGLISH)


class Words:
    """What a release calls its phrases and features in one language; without labels, what they are."""

    def __init__(self, release: ReleaseInfo, tag: str) -> None:
        self.release = release
        self._tag = tag
        self._labels: dict[str, str] = {}  # canonical phrase → label
        self._canonical: dict[str, str] = {}  # folded phrase or label of any language → canonical phrase
        self._names: dict[str, str] = {}  # kind or feature → label
        self._words: dict[tuple[str, str], str] = {}  # (feature, word) → label
        for kind in release.phrase_kinds:
            for phrase in kind.phrases:
                self._canonical[folded(phrase)] = phrase
            for labels in kind.labels:
                for phrase, label in zip(kind.phrases, labels.words, strict=False):
                    self._canonical.setdefault(folded(label), phrase)
                    if labels.language == tag:
                        self._labels[phrase] = label
                if labels.language == tag:
                    self._names[kind.kind] = labels.name
        for feature in release.features:
            for labels in feature.labels:
                if labels.language == tag:
                    self._names[feature.name] = labels.name
                    for word, label in zip(feature.vocabulary, labels.words, strict=False):
                        self._words[feature.name, word] = label

    def phrase(self, phrase: str) -> str:
        """A phrase's label."""
        canonical = self._canonical.get(folded(phrase), phrase)
        return self._labels.get(canonical, canonical)

    def name(self, name: str) -> str:
        """The label of a kind of phrases or of a profile's feature."""
        return self._names.get(name) or name.replace("_", " ")

    def word(self, feature: str, word: str) -> str:
        """The label of a feature's word."""
        return self._words.get((feature, word)) or word.replace("_", " ")

    def canonical(self, phrase: str) -> str | None:
        """The phrase of the vocabulary that is meant; None for one that the models were not taught."""
        return self._canonical.get(folded(phrase))

    def unknown(self, prompt: str) -> list[str]:
        """The phrases of a prompt that the vocabulary lacks."""
        return [phrase for phrase in phrases_of(prompt) if self.canonical(phrase) is None]

    def phrases(self, prompt: str) -> list[str]:
        """A prompt's phrases, by their labels."""
        return self.each(phrases_of(prompt))

    def each(self, phrases: Iterable[str]) -> list[str]:
        """Phrases' labels."""
        return [self.phrase(phrase) for phrase in phrases]

    def all_known(self) -> dict[str, str]:
        """Canonical phrase by every way to write it, folded."""
        return dict(self._canonical)

    def labels(self) -> dict[str, str]:
        """Label by canonical phrase."""
        return {phrase: self.phrase(phrase) for kind in self.release.phrase_kinds for phrase in kind.phrases}
