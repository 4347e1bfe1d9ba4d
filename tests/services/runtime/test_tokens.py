"""Each release's own tokenizers, read once, and what both of them together leave unread. Ids: tests/contract."""

import json
from pathlib import Path

import pytest

from contract import release as files
from contract.release import Release, release_dir
from services.runtime.tokens import Tokenizers
from tests.services.market import TEXT_TOKENS, write_release

ROOM = TEXT_TOKENS - 2  # beside begin and end


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return write_release(tmp_path, 1)


def test_a_prompt_has_begin_end_and_padding(release: Release) -> None:
    ids = Tokenizers().generator(release).encode(["red dress", ""])
    assert ids.tolist() == [[0, 3, 4, *[1] * (TEXT_TOKENS - 3)], [0, *[1] * (TEXT_TOKENS - 1)]]


def test_a_prompt_is_held_while_it_loses_nothing(release: Release) -> None:
    tokenizer = Tokenizers().generator(release)
    assert tokenizer.holds("") and tokenizer.holds("red " * ROOM)
    assert not tokenizer.holds("red " * (ROOM + 1))


def test_each_release_has_tokenizers_of_its_own_that_are_read_once(tmp_path: Path) -> None:
    tokenizers, one, two = Tokenizers(), write_release(tmp_path, 1), write_release(tmp_path, 2)
    found = [tokenizers.generator(one), tokenizers.reward(one), tokenizers.generator(two), tokenizers.reward(two)]
    assert len(set(map(id, found))) == 4
    assert tokenizers.generator(one) is found[0]


def test_what_either_tokenizer_leaves_out_is_unread(release: Release, tmp_path: Path) -> None:
    """The reward model's splits one word into letters, so it reads less of a prompt with that word."""
    path = release_dir(tmp_path, 1) / files.REWARD_TOKENIZER
    document = json.loads(path.read_text())
    letters = {"type": "Sequence", "pretokenizers": [document["pre_tokenizer"], _split("[longwrd]")]}
    path.write_text(json.dumps(document | {"pre_tokenizer": letters}))
    prompt = f"red,{'longword ' * 2},dress,{'sleeveless ' * ROOM},red"
    assert Tokenizers().unread(release, ["red,dress", prompt]) == [
        (),
        ("longword longword", " ".join(["sleeveless"] * ROOM)),
    ]
    assert Tokenizers().generator(release).unread(prompt) == (" ".join(["sleeveless"] * ROOM),)


def _split(pattern: str) -> dict[str, object]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
