"""What was not read of a group is known as long as its release is there."""

from dataclasses import replace
from pathlib import Path

import pytest

from contract.release import current_file
from services.generation.orders import Unread
from services.generation.reading import Reader
from services.runtime.release import Releases
from services.runtime.tokens import Tokenizers
from tests.services.generation.test_wishing import order
from tests.services.market import TEXT_TOKENS, VOCABULARY, write_release

LONG = " ".join(["red"] * TEXT_TOKENS)


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    write_release(tmp_path, 1)
    return Reader(Releases(tmp_path), Tokenizers())


def test_both_prompts_are_read(reader: Reader) -> None:
    asked = replace(order(f"red,{LONG},dress"), negative_prompt=f"{LONG}，sleeveless")
    assert reader.unread(asked, 1) == Unread((LONG,), (LONG,))
    assert reader.unread(order(), 1) == Unread()


def test_what_is_not_read_is_named_as_it_is_typed(reader: Reader) -> None:
    most = " ".join(["red"] * (TEXT_TOKENS - 6))  # beside it and "dress" there is room for one word
    asked = replace(order(f"连衣裙，{most},长袖,亮片"), negative_prompt=f"{LONG}，无袖")
    assert reader.unread(asked, 1) == Unread(("长袖",), (LONG,))
    current_file(reader.releases._repository).unlink()  # stored groups are read though none is in service
    assert reader.unread(asked, 1) == Unread(("长袖",), (LONG,))
    twin = asked.canonical(VOCABULARY)
    assert twin.prompt == f"dress,{most},long sleeves,sequins"
    assert reader.unread(twin, 1) == Unread(("long sleeves",), (LONG,))


def test_of_a_release_that_is_gone_nothing_is_said(reader: Reader) -> None:
    assert reader.unread(order(LONG), 2) == Unread()
