"""A prompt as the token ids that a text model reads, and which of its phrases it does not.

Services and training tokenise by this alone, so that a served prompt is read as a trained one. Knows tokenizers' files
and how phrases are dropped; neither models nor the phrases' meaning.

A text is only text: a special token that somebody typed, such as "<|endoftext|>", is read as the characters it has. Ids
of special tokens stand at the begin, at the end and as padding.

A prompt that is longer than the model's tokens loses whole phrases: phrases are taken in order, each unless it no
longer fits, and one that is there twice is taken once. Where no phrase fits, the first one is cut.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from contract.prompts import folded, phrases_of, readable

_END_OF_TEXT = "<|endoftext|>"  # CLIP pads with it
_COMMA = 1  # token


@dataclass(frozen=True)
class Reading:
    """What a model reads of one prompt."""

    ids: list[int]  # without begin, end and padding
    unread: tuple[str, ...] = ()  # phrases that do not fit, in the prompt's order; of one that is cut, all


class PromptTokenizer:
    """Encodes each prompt as exactly `num_tokens` ids.

    Args:
        document: a tokenizer.json.
        num_tokens: the ids of a prompt, with begin and end.
        pad_id: what fills up; unset it is the document's, or the end of text.

    Raises:
        ValueError: the tokenizer has neither padding nor an end of text.
    """

    def __init__(self, document: str, num_tokens: int, pad_id: int | None = None) -> None:
        told = json.loads(document)
        padding, added = told.get("padding") or {}, told.get("added_tokens") or []
        # Without its added tokens, the tokenizer splits them like any other text.
        bare = told | {"added_tokens": [], "truncation": None, "padding": None}
        self._tokenizer = Tokenizer.from_str(json.dumps(bare))
        self._begin, self._end = self._marks()
        self._special = frozenset([*(token["id"] for token in added), *self._begin, *self._end])
        self._num_tokens = num_tokens
        self._pad_id = self._padding_id(padding.get("pad_id") if pad_id is None else pad_id, added)

    @cached_property
    def room(self) -> int:
        """The most tokens of a prompt, without begin and end."""
        return self._num_tokens - len(self._begin) - len(self._end)

    def encode(self, prompts: Sequence[str]) -> NDArray[np.int64]:
        """Token ids with begin, end and padding  # (B, num_tokens)"""
        ids = np.full((len(prompts), self._num_tokens), self._pad_id, np.int64)
        for row, reading in zip(ids, self.readings(prompts), strict=True):
            marked = [*self._begin, *reading.ids, *self._end]
            row[: len(marked)] = marked
        return ids

    def unread(self, prompt: str) -> tuple[str, ...]:
        """The phrases that the model does not read, as contract.prompts reads them; none of an ordinary prompt."""
        return self.readings([prompt])[0].unread

    def holds(self, prompt: str) -> bool:
        """Whether the whole prompt fits."""
        return len(self._ids([readable(prompt)])[0]) <= self.room

    def readings(self, prompts: Sequence[str]) -> list[Reading]:
        """What is read of each."""
        whole = self._ids([readable(prompt) for prompt in prompts])
        return [
            Reading(ids) if len(ids) <= self.room else self._shortened(prompt, ids)
            for prompt, ids in zip(prompts, whole, strict=True)
        ]

    def _shortened(self, prompt: str, ids: list[int]) -> Reading:
        distinct = dict[str, str]()
        for phrase in phrases_of(prompt):
            distinct.setdefault(folded(phrase), phrase)
        phrases, kept, used = list(distinct.values()), list[str](), 0
        each = self._ids(phrases)
        for phrase, of_phrase in zip(phrases, each, strict=True):
            more = len(of_phrase) + (_COMMA if kept else 0)
            if used + more <= self.room:
                used += more
                kept.append(phrase)
        while kept and not self.holds(",".join(kept)):  # a comma and what follows it may be other tokens than alone
            kept.pop()
        unread = tuple(phrase for phrase in phrases if phrase not in kept)
        if kept:
            return Reading(self._ids([",".join(kept)])[0], unread)
        return Reading((each[0] if each else ids)[: self.room], unread)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Of readable texts. What the tokenizer does not know, some read as a special token: it is left out."""
        found = self._tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [[token for token in encoded.ids if token not in self._special] for encoded in found]

    def _marks(self) -> tuple[list[int], list[int]]:
        """The ids before and after every text."""
        probe = self._tokenizer.encode("a")
        inner = [place for place, mark in enumerate(probe.special_tokens_mask) if not mark]
        return probe.ids[: inner[0]], probe.ids[inner[-1] + 1 :]

    def _padding_id(self, given: int | None, added: Sequence[dict[str, object]]) -> int:
        if given is not None:
            return given
        found = next((token["id"] for token in added if token["content"] == _END_OF_TEXT), None)
        found = self._tokenizer.token_to_id(_END_OF_TEXT) if found is None else found
        if not isinstance(found, int):
            raise ValueError(f"tokenizer has neither padding nor {_END_OF_TEXT}")
        return found
