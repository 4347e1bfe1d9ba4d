"""Prompts as a release's text models read them.

Knows the tokenizers of releases. Does not know a prompt's meaning, nor the use of its tokens.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from contract.release import Release

_END_OF_TEXT = "<|endoftext|>"  # CLIP pads with it


class PromptTokenizer:
    """Encodes each prompt as exactly num_tokens ids; a longer prompt loses its end, as in training."""

    def __init__(self, document: str, num_tokens: int) -> None:
        self._tokenizer = Tokenizer.from_str(document)
        self._tokenizer.enable_truncation(num_tokens)
        padding = self._tokenizer.padding or {"pad_id": self._end_of_text(), "pad_token": _END_OF_TEXT}
        self._tokenizer.enable_padding(pad_id=padding["pad_id"], pad_token=padding["pad_token"], length=num_tokens)

    def encode(self, prompts: Sequence[str]) -> NDArray[np.int64]:
        """Token ids with begin, end and padding  # (B, num_tokens)"""
        return np.asarray([self._tokenizer.encode(prompt).ids for prompt in prompts], dtype=np.int64)

    def holds(self, prompt: str) -> bool:
        """Whether the whole prompt fits, without losing its end."""
        return not self._tokenizer.encode(prompt).overflowing

    def _end_of_text(self) -> int:
        token_id = self._tokenizer.token_to_id(_END_OF_TEXT)
        if token_id is None:
            raise ValueError(f"tokenizer has neither padding nor {_END_OF_TEXT}")
        return int(token_id)


class Tokenizers:
    """Both tokenizers of every release used so far, each file read once."""

    def __init__(self) -> None:
        self._known: dict[Path, PromptTokenizer] = {}

    def generator(self, release: Release) -> PromptTokenizer:
        """For the text encoder."""
        return self._of(release.tokenizer_file, release.sizes.text_tokens)

    def reward(self, release: Release) -> PromptTokenizer:
        """For the reward model's text tower."""
        return self._of(release.reward_tokenizer_file, release.sizes.text_tokens)

    def _of(self, file: Path, num_tokens: int) -> PromptTokenizer:
        if file not in self._known:
            self._known[file] = PromptTokenizer(file.read_text(encoding="utf-8"), num_tokens)
        return self._known[file]
