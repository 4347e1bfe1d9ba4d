"""Prompts as token ids, and ids as CLIP's text towers read them: causally, and only up to the first end token.

Knows tokenizers and ids; neither vocabularies nor models.
"""

from collections.abc import Sequence

import numpy as np
from torch import Tensor
from transformers import CLIPTokenizer

TOKENS = 77  # as in CLIP; the length that the served models fix


def encode(tokenizer: CLIPTokenizer, prompts: Sequence[str]) -> np.ndarray:
    """Token ids, int64 (N, 77): cut and padded to TOKENS."""
    encoded = tokenizer(list(prompts), padding="max_length", truncation=True, max_length=TOKENS)
    return np.asarray(encoded["input_ids"], dtype=np.int64)


def without_padding(input_ids: Tensor, eos_token_id: int) -> Tensor:
    """The ids (B, T) up to the last text's end, (B, t): later ids cannot change a causal tower's pooled output.

    Padding short prompts to 77 tokens multiplies their cost. Texts without an end keep their length.
    """
    ends = input_ids == eos_token_id  # (B, T)
    if not bool(ends.any(1).all()):
        return input_ids
    return input_ids[:, : int(ends.int().argmax(1).max()) + 1]
