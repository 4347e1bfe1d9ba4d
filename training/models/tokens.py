"""Prompts as token ids, and ids as CLIP's text towers read them: causally, and only up to the first end token.

Prompts are read by the contract's rules, which the services keep, too. Knows a family's tokenizer and ids; neither
vocabularies nor models.
"""

import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from torch import Tensor
from transformers import CLIPTokenizer

from contract.tokens import PromptTokenizer

TOKENS = 77  # as in CLIP; the length that the served models fix


def encode(tokenizer: CLIPTokenizer, prompts: Sequence[str], length: int = TOKENS) -> np.ndarray:
    """Token ids, int64 (N, length); phrases that do not fit are left out, as contract.tokens says."""
    return _reader(tokenizer, length).encode(prompts)


def reads_whole(tokenizer: CLIPTokenizer, prompt: str, length: int = TOKENS) -> bool:
    """Whether nothing of a prompt is left out."""
    return _reader(tokenizer, length).holds(prompt)


@lru_cache(maxsize=8)
def _reader(tokenizer: CLIPTokenizer, length: int) -> PromptTokenizer:
    return PromptTokenizer(tokenizer.backend_tokenizer.to_str(), length, tokenizer.pad_token_id)


def origin_of_tokens(tokenizer: CLIPTokenizer) -> dict[str, str]:
    """Which tokenizer this is, as an entry of origin.json: a hash of its tokens, merges and padding.

    The files' form does not matter: tokenizer.json gives the same as vocab.json and merges.txt.
    """
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    tokens = sorted(tokenizer.get_vocab().items(), key=lambda entry: (entry[1], entry[0]))
    digest = hashlib.sha256(json.dumps([tokens, merges, tokenizer.pad_token_id]).encode())
    return {"tokenizer": digest.hexdigest()[:16]}


def without_padding(input_ids: Tensor, eos_token_id: int) -> Tensor:
    """The ids (B, T) up to the last text's end, (B, t): later ids cannot change a causal tower's pooled output.

    Padding short prompts to 77 tokens multiplies their cost. Texts without an end keep their length.
    """
    ends = input_ids == eos_token_id  # (B, T)
    if not bool(ends.any(1).all()):
        return input_ids
    return input_ids[:, : int(ends.int().argmax(1).max()) + 1]
