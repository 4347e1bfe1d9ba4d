"""However a phrase is typed, it is read as the same phrase; and what shows nothing is nothing."""

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contract.prompts import folded, has_word_with, phrases_of, readable

EVERY_CHARACTER = [chr(code) for code in (*range(0xD800), *range(0xE000, 0x20000), *range(0xE0000, 0xE0200))]
NOTHING = (
    "\u200b\u200c\u200d\u2060\ufeff\u00ad\u034f\u061c\u200e\u200f\u202a\u202e\u2066\u2069\ufe0f\U000e0100\u3164\u115f"
)
BLANKS = "\t\x00\x07\x1b\x7f\x80\u00a0\u1680\u2003\u2007\u202f\u205f\u3000\u2800"
BREAKS = "\n\r\v\f\x85\u2028\u2029"
ODD = f",，、،;'’-‑–ｖＶ①½ﬁéÉßİſ中👗👩🏽\u0301<|endoftext|>{NOTHING}{BLANKS}{BREAKS}"

texts = st.text(st.one_of(st.sampled_from(ODD), st.characters(exclude_categories=["Cs"])), max_size=80)


@pytest.mark.parametrize(
    "prompt",
    [
        "dress,v-neck,long sleeves",
        " dress , v-neck,, long  sleeves,",
        "dress，v-neck，long sleeves",
        "dress、v-neck､long sleeves",
        "dress،v-neck﹐long sleeves",
        "dress\nv-neck\r\nlong sleeves\n",
        "dress,\nv-neck,\n\n, long sleeves",
        "dress\u2028v-neck\u2029\tlong\u00a0sleeves",
        "ｄｒｅｓｓ,ｖ－ｎｅｃｋ,ｌｏｎｇ　ｓｌｅｅｖｅｓ",
        "dress,v‑neck,long sleeves",
        "dress,v–neck,long\u3000sleeves",
        "\ufeffdress,\u200bv-neck,long\u00ad sle\u200deves\u202c",
        "dress,v-neck\ufe0f,\u200b,\u2800,long sleeves",
        "\x1bdress,\x07v-neck,long\x00sleeves",
    ],
)
def test_one_prompt_in_many_writings(prompt: str) -> None:
    assert phrases_of(prompt) == ["dress", "v-neck", "long sleeves"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Crew Neck", "crew  neck"),
        ("women’s", "WOMEN'S"),
        ("ﬁtted", "fitted"),
        ("Straße", "STRASSE"),
        ("CAFE\u0301", "café"),
    ],
)
def test_phrases_are_the_same_however_they_are_written(one: str, other: str) -> None:
    assert folded(one) == folded(other)


def test_semicolons_dots_and_dashes_between_words_separate_nothing() -> None:
    assert phrases_of("red; dress. v-neck — 8·k") == ["red; dress. v-neck — 8·k"]


def test_printable_ascii_is_read_as_it_is() -> None:
    text = "".join(map(chr, range(0x20, 0x7F)))
    assert readable(text) == text and readable(",, ,") == ",, ,"


def test_letters_of_other_scripts_and_emoji_stay() -> None:
    for text in ("红色连衣裙", "فستان أحمر", "платье", "ドレス", "👗👩🏽", "é", "שמלה", "ผ้าไหม"):
        assert readable(text) == unicodedata.normalize("NFC", text) and phrases_of(text) == [text]


def test_every_comma_of_unicode_separates() -> None:
    commas = [
        c for c in EVERY_CHARACTER if unicodedata.name(c, "").endswith("COMMA") and unicodedata.category(c) == "Po"
    ]
    assert len(commas) > 20
    assert [c for c in commas if phrases_of(f"red{c}dress") != ["red", "dress"]] == []


def test_what_shows_nothing_is_no_phrase() -> None:
    """All blanks, controls and default-ignorable format characters, and those letters and marks that show nothing."""
    nothing = {c for c in EVERY_CHARACTER if unicodedata.category(c) in ("Zs", "Zl", "Zp", "Cc")}
    for character in (*nothing, *NOTHING, *BLANKS, *BREAKS, ",", "，"):
        assert phrases_of(character * 2) == [] and folded(character) in ("", ",")


def test_a_line_break_beside_a_comma_or_at_an_end_adds_none() -> None:
    assert readable("red,\n dress\n") == "red,  dress "
    assert readable("red\n\ndress") == "red,dress"


def test_no_character_is_read_otherwise_the_second_time() -> None:
    changed = [c for c in EVERY_CHARACTER if readable(c) != c or folded(c) != c]
    assert len(changed) > 5_000
    for character in changed:
        once = readable(f"a{character}b")
        assert readable(once) == once
        assert folded(folded(character)) == folded(character)


@given(texts)
@example("e\u200d\u0301")  # what joins again once nothing stands between
def test_reading_twice_is_reading_once(text: str) -> None:
    once = readable(text)
    assert readable(once) == once and phrases_of(once) == phrases_of(text)
    assert phrases_of(",".join(phrases_of(text))) == phrases_of(text)
    assert folded(folded(text)) == folded(text)


@given(texts)
def test_phrases_have_neither_separators_nor_edges(text: str) -> None:
    for phrase in phrases_of(text):
        assert phrase == phrase.strip() and phrase
        assert not set(phrase) & set(f",{NOTHING}{BREAKS}{BLANKS}")


@pytest.mark.parametrize(
    ("phrase", "prefix", "has"),
    [
        ("long sleeves", "lo", True),
        ("long sleeves", "sl", True),
        ("v-neck", "ne", True),
        ("long sleeves", "eeves", False),
        ("dress", "dresses", False),
        ("dress", "", True),
        ("v领", "领", True),
        ("蓬蓬裙 长款", "蓬裙 长", True),
        ("ワンピース", "ピー", True),
        ("กระโปรงยาว", "ยาว", True),
        ("платье", "тье", False),
        ("v领x", "x", False),
    ],
)
def test_a_prefix_begins_a_word(phrase: str, prefix: str, has: bool) -> None:
    assert has_word_with(folded(phrase), folded(prefix)) is has
