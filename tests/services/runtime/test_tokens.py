"""Prompts become ids of one length, and it is known which prompts lose their end."""

from pathlib import Path

import pytest

from services.runtime.tokens import PromptTokenizer, Tokenizers
from tests.services.market import TEXT_TOKENS, write_release

ROOM = TEXT_TOKENS - 2  # beside begin and end


@pytest.fixture
def tokenizer(tmp_path: Path) -> PromptTokenizer:
    return Tokenizers().generator(write_release(tmp_path, 1))


def test_a_prompt_has_begin_end_and_padding(tokenizer: PromptTokenizer) -> None:
    ids = tokenizer.encode(["red dress", ""])
    assert ids.tolist() == [[0, 3, 4, *[1] * (TEXT_TOKENS - 3)], [0, *[1] * (TEXT_TOKENS - 1)]]


def test_a_prompt_too_long_loses_its_end(tokenizer: PromptTokenizer) -> None:
    assert tokenizer.encode(["red " * 200]).tolist() == [[0, *[3] * ROOM, 1]]


def test_a_prompt_is_held_while_it_loses_nothing(tokenizer: PromptTokenizer) -> None:
    assert tokenizer.holds("") and tokenizer.holds("red " * ROOM)
    assert not tokenizer.holds("red " * (ROOM + 1))


def test_each_release_has_tokenizers_of_its_own_that_are_read_once(tmp_path: Path) -> None:
    tokenizers, one, two = Tokenizers(), write_release(tmp_path, 1), write_release(tmp_path, 2)
    found = [tokenizers.generator(one), tokenizers.reward(one), tokenizers.generator(two), tokenizers.reward(two)]
    assert len(set(map(id, found))) == 4
    assert tokenizers.generator(one) is found[0]
