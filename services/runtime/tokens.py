"""A prompt as a release's text models read it.

Knows one release's tokenizer. Does not know prompts' meaning, requests, or where the tokenizer's document lies.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

_END_OF_TEXT = "<|endoftext|>"  # CLIP pads with it


class PromptTokenizer:
    """Turns a prompt into exactly num_tokens ids; a longer prompt loses its end, as in training."""

    def __init__(self, document: str, num_tokens: int) -> None:
        self._tokenizer = Tokenizer.from_str(document)
        self._num_tokens = num_tokens
        self._tokenizer.enable_truncation(num_tokens)
        padding = self._tokenizer.padding or {"pad_id": self._end_of_text(), "pad_token": _END_OF_TEXT}
        self._tokenizer.enable_padding(pad_id=padding["pad_id"], pad_token=padding["pad_token"], length=num_tokens)

    def encode(self, prompt: str) -> NDArray[np.int64]:
        """Token ids with begin, end and padding  # (num_tokens,)"""
        return np.asarray(self._tokenizer.encode(prompt).ids, dtype=np.int64)

    def _end_of_text(self) -> int:
        token_id = self._tokenizer.token_to_id(_END_OF_TEXT)
        if token_id is None:
            raise ValueError(f"tokenizer has neither padding nor {_END_OF_TEXT}")
        return int(token_id)
