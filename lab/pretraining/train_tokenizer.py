"""Trains the byte-pair tokenizer of the tiny family: CLIP's pipeline on the market's prompts."""

from collections.abc import Iterator

import numpy as np
from transformers import CLIPTokenizer

from lab.market.attributes import complete
from lab.market.prompts import ask_for, write
from training.models.tokens import TOKENS

VOCABULARY = 900  # 512 byte tokens, two marks, and merges for the market's words


def train() -> CLIPTokenizer:
    """A tokenizer whose merges cover the market's phrases; other text falls back to bytes."""
    blank = CLIPTokenizer(model_max_length=TOKENS)
    tokenizer = blank.train_new_from_iterator(_prompts(4_000), VOCABULARY)
    tokenizer.model_max_length = TOKENS
    return tokenizer


def _prompts(count: int) -> Iterator[str]:
    for code in (*range(0x21, 0x7F), *range(0xA1, 0x100), 0x4E2D, 0x1F457):
        yield chr(code)  # so that any text ends in a known byte, and nothing is ever unknown
    for byte in range(0x80, 0xC0):
        yield bytes((0xD7, byte)).decode()
    rng = np.random.default_rng(11)
    for _ in range(count):
        yield write(ask_for(complete({}, rng), rng, most=10), rng)
