"""What was not read of a group is known as long as its release is there."""

from dataclasses import replace
from pathlib import Path

import pytest

from services.generation.orders import Unread
from services.generation.reading import Reader
from services.runtime.release import Releases
from services.runtime.tokens import Tokenizers
from tests.services.generation.test_wishing import order
from tests.services.market import TEXT_TOKENS, write_release

LONG = " ".join(["red"] * TEXT_TOKENS)


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    write_release(tmp_path, 1)
    return Reader(Releases(tmp_path), Tokenizers())


def test_both_prompts_are_read(reader: Reader) -> None:
    asked = replace(order(f"red,{LONG},dress"), negative_prompt=f"{LONG}，sleeveless")
    assert reader.unread(asked, 1) == Unread((LONG,), (LONG,))
    assert reader.unread(order(), 1) == Unread()


def test_of_a_release_that_is_gone_nothing_is_said(reader: Reader) -> None:
    assert reader.unread(order(LONG), 2) == Unread()
