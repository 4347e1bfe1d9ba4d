"""A prompt as ids: whatever is typed is text, and what does not fit is named."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from contract.prompts import folded, phrases_of
from contract.tokens import PromptTokenizer
from lab.market.prompts import vocabulary
from tests.contract.test_prompts import ODD, texts

DOCUMENT = Path("training/weights/tiny/reward/tokenizer/tokenizer.json").read_text(encoding="utf-8")
BEGIN, END, LENGTH, ROOM = 0, 1, 77, 75
ADDED = ("<|startoftext|>", "<|endoftext|>")


@cache
def tokenizer() -> PromptTokenizer:
    return PromptTokenizer(DOCUMENT, LENGTH)


def changed(**parts: Any) -> PromptTokenizer:
    return PromptTokenizer(json.dumps(json.loads(DOCUMENT) | parts), LENGTH)


def inner(prompt: str) -> list[int]:
    """The ids between begin and end, checked to be text, and everything after the end to be padding."""
    ids = tokenizer().encode([prompt])[0].tolist()
    end = ids.index(END)
    assert len(ids) == LENGTH and ids[0] == BEGIN and ids[end:] == [END] * (LENGTH - end)
    assert not {BEGIN, END} & set(ids[1:end])
    return ids[1:end]


def test_ordinary_prompts_have_the_ids_that_the_tokenizers_library_gives_them() -> None:
    theirs = Tokenizer.from_str(DOCUMENT)
    theirs.enable_truncation(LENGTH)
    theirs.enable_padding(pad_id=END, pad_token=ADDED[1], length=LENGTH)
    phrases = [phrase for _, phrase in vocabulary().phrases]
    prompts = ["", "dress", " Dress ,  V-neck,", "it's 100% silk; women's!", *phrases, ",".join(phrases[:12])]
    expected = [encoded.ids for encoded in theirs.encode_batch(prompts)]
    np.testing.assert_array_equal(tokenizer().encode(prompts), expected)


def test_the_test_knows_the_tokenizers_added_tokens() -> None:
    assert {token["content"]: token["id"] for token in json.loads(DOCUMENT)["added_tokens"]} == {
        ADDED[0]: 0,
        ADDED[1]: 1,
    }


@pytest.mark.parametrize("token", ADDED)
@pytest.mark.parametrize("write", [str.lower, str.upper, str.title, lambda token: token.replace("|", "｜")])
def test_a_typed_special_token_is_text(token: str, write: Any) -> None:
    alone = inner(write(token))
    assert len(alone) > 5
    assert inner(f"dress {write(token)} red") == [*inner("dress"), *alone, *inner("red")]
    assert inner(f"dress{write(token)},red")[-1:] == inner("red")


@pytest.mark.parametrize(
    "added",
    [
        {"id": 0, "content": "<|startoftext|>", "normalized": True, "special": True},  # as in CLIP's own file
        {"id": 700, "content": "dress", "normalized": True, "special": False},
        {"id": 999, "content": "[mask]", "normalized": False, "special": True},  # beyond the vocabulary
    ],
)
def test_no_added_token_is_ever_matched(added: dict[str, Any]) -> None:
    whole = {"single_word": False, "lstrip": True, "rstrip": True} | added
    tokens = [*json.loads(DOCUMENT)["added_tokens"], whole]
    for prompt in ("red <|startoftext|> dress", "red [MASK] dress [mask]", "<|ENDOFTEXT|>dress"):
        np.testing.assert_array_equal(changed(added_tokens=tokens).encode([prompt]), tokenizer().encode([prompt]))


def test_what_the_tokenizer_does_not_know_ends_no_text() -> None:
    """The unknown token of CLIP's tokenizers is the end of text; this vocabulary lacks some bytes."""
    assert END in Tokenizer.from_str(DOCUMENT).encode("\x07", add_special_tokens=False).ids
    odd = "".join(chr(code) for code in (*range(0x100), 0x7FF, 0xFFFD, 0x1F469, 0x10FFFD))
    for character in odd:
        assert inner(f"dress {character} red")[-1] == inner("red")[-1]


def test_padding_is_the_documents_own_the_given_one_or_the_end() -> None:
    bare = json.loads(DOCUMENT) | {"padding": None}
    padded = bare | {"padding": json.loads(DOCUMENT)["padding"] or {"pad_id": 5}}
    padded["padding"]["pad_id"] = 5
    assert PromptTokenizer(json.dumps(bare), LENGTH).encode([""])[0, -1] == END
    assert PromptTokenizer(json.dumps(padded), LENGTH).encode([""])[0, -1] == 5
    assert PromptTokenizer(json.dumps(padded), LENGTH, pad_id=7).encode([""])[0, -1] == 7
    nothing = bare | {"added_tokens": [], "model": json.loads(DOCUMENT)["model"]}
    nothing["model"]["vocab"] = {text: n for text, n in nothing["model"]["vocab"].items() if text != ADDED[1]}
    nothing["model"]["unk_token"] = None
    nothing["post_processor"] = None
    with pytest.raises(ValueError, match="neither padding nor"):
        PromptTokenizer(json.dumps(nothing), LENGTH)


# ---- prompts that do not fit --------------------------------------------------------------------

CHINESE = "红色连衣裙长袖" * 4  # 28 characters, 84 tokens


def test_whole_phrases_are_left_out_and_named() -> None:
    phrases = [f"phrase number {n}" for n in range(30)]
    unread = tokenizer().unread(",".join(phrases))
    assert unread and list(unread) == phrases[-len(unread) :]
    assert inner(",".join(phrases)) == inner(",".join(phrases[: -len(unread)]))
    assert not tokenizer().holds(",".join(phrases)) and tokenizer().holds(",".join(phrases[: -len(unread)]))


def test_what_still_fits_after_a_phrase_that_does_not_is_read() -> None:
    assert tokenizer().unread(f"dress,{CHINESE},red") == (CHINESE,)
    assert inner(f"dress,{CHINESE},red") == inner("dress,red")


def test_a_phrase_that_is_there_twice_is_read_once_where_there_is_no_room_for_both() -> None:
    assert tokenizer().unread(",".join(["long-hair model"] * 20)) == ()
    assert inner(",".join(["Long-hair model"] * 20 + ["striped"])) == inner("Long-hair model,striped")
    assert inner("red,red") == [*inner("red,"), *inner("red")]  # where there is room, nothing is left out


def test_where_no_phrase_fits_the_first_is_cut_and_named() -> None:
    assert tokenizer().unread(CHINESE) == (CHINESE,)
    assert tokenizer().unread(f"{CHINESE},{CHINESE}长") == (CHINESE, f"{CHINESE}长")
    assert inner(CHINESE) == inner(f"{CHINESE},{CHINESE}长") and len(inner(CHINESE)) == ROOM


def test_a_prompt_that_just_fits_is_read_whole() -> None:
    full = ",".join(["red"] * ((ROOM + 1) // 2))  # a token each, and commas between
    assert len(inner(full)) == ROOM and tokenizer().holds(full) and tokenizer().unread(full) == ()
    assert not tokenizer().holds(f"{full},dress") and tokenizer().unread(f"{full},dress") == ()
    assert inner(f"{full},dress") == inner("red,dress")


def test_separators_alone_are_no_phrases_however_many() -> None:
    assert tokenizer().unread("," * 1000) == () and len(inner("," * 1000)) <= ROOM
    assert tokenizer().unread(",-" * 500) == () and inner(",-" * 500) == inner("-")


@given(texts)
def test_every_text_has_ids_of_one_length_and_specials_in_their_places_only(text: str) -> None:
    inner(text)


@given(st.lists(st.text(st.sampled_from(ODD), max_size=30), max_size=60))
def test_what_is_unread_is_of_the_prompt_and_what_is_read_fits(parts: list[str]) -> None:
    prompt = ",".join(parts)
    phrases, [reading] = phrases_of(prompt), tokenizer().readings([prompt])
    assert len(reading.ids) <= ROOM
    assert set(reading.unread) <= set(phrases)
    if tokenizer().holds(prompt):
        assert reading.unread == ()
    left = {folded(phrase) for phrase in reading.unread}
    read = [phrase for phrase in phrases if folded(phrase) not in left]
    if read and not tokenizer().holds(prompt):
        distinct = dict[str, str]()
        for phrase in read:
            distinct.setdefault(folded(phrase), phrase)
        assert reading.ids == tokenizer().readings([",".join(distinct.values())])[0].ids
