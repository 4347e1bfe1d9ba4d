"""phrases.json: what is refused and by which words, and what goes together."""

import json
from pathlib import Path

import pytest

from contract.errors import VocabularyError
from contract.labels import Labels
from contract.vocabulary import PhraseKind, Vocabulary
from lab.market.prompts import vocabulary

CATEGORY = {"kind": "category", "phrases": ["Dress", "skirt", "hat"]}
SLEEVE = {"kind": "sleeve", "phrases": ["sleeveless", "long sleeves"], "only_with": [["dress"]]}
CHINESE = {"kind": "品类", "phrases": ["连衣裙", "半身裙", "帽子"]}
LABELLED = CATEGORY | {"labels": {"zh": CHINESE, "de": {"kind": "Kategorie", "phrases": ["Kleid", "Rock", "Hut"]}}}
CUFF = {"kind": "cuff", "phrases": ["wide cuffs"], "only_with": [["dress"], ["long sleeves"]]}


@pytest.mark.parametrize(
    ("entries", "told"),
    [
        ({}, "this is a dict, not a list"),
        ([CATEGORY, {"kind": "hem"}], "entry 1 is not"),
        ([CATEGORY, {"kind": "hem", "phrases": ["raw hem"], "needs": []}], "entry 1 is not"),
        ([CATEGORY, {"kind": "hem", "phrases": [" "]}], "entry 1: kind is one text, phrases are one or more"),
        ([CATEGORY, {"kind": "hem", "phrases": ["raw hem"], "only_with": ["dress"]}], "only_with has lists"),
        ([CATEGORY, CATEGORY], "the kind 'category' is there twice"),
        ([CATEGORY, {"kind": "garment", "phrases": ["dress"]}], "the phrase 'dress' is there twice"),
        ([CATEGORY, {"kind": "hem", "phrases": ["raw, wide"]}], "'raw, wide' has a comma"),
        ([CATEGORY, {"kind": "hem", "phrases": ["raw、wide"]}], "'raw、wide' has a comma"),
        ([CATEGORY, {"kind": "hem", "phrases": ["\u200b"]}], "shows nothing"),
        ([CATEGORY, {"kind": "garment", "phrases": ["ｄｒｅｓｓ\u200b"]}], "the phrase 'dress' is there twice"),
        ([CATEGORY, {"kind": "hem", "phrases": ["raw"], "only_with": [["gown"]]}], "hem: only_with has .'gown'., not"),
        ([CATEGORY, SLEEVE, CUFF | {"only_with": [["dress", "sleeveless"]]}], "not phrases of one kind before"),
        ([CATEGORY, SLEEVE | {"only_with": [["sleeveless"]]}], "sleeve: only_with"),
        ([CATEGORY, CUFF, SLEEVE], "cuff: only_with has .'long sleeves'., not phrases of one kind before"),
        ([], "there are no phrases"),
        ([CATEGORY | {"labels": []}], "entry 0: labels are"),
        ([CATEGORY | {"labels": {"zh": ["连衣裙", "半身裙", "帽子"]}}], "entry 0: labels are"),
        ([CATEGORY | {"labels": {"zh": {"phrases": CHINESE["phrases"]}}}], "entry 0: labels are"),
        ([CATEGORY | {"labels": {"zh": CHINESE | {"hint": "x"}}}], "entry 0: labels are"),
        ([CATEGORY | {"labels": {"zh": CHINESE | {"phrases": ["连衣裙", "半身裙", 3]}}}], "entry 0: labels are"),
        ([CATEGORY | {"labels": {"Chinese!": CHINESE}}], "category: 'Chinese!' is no language tag"),
        ([CATEGORY | {"labels": {"zh": CHINESE, "ZH": CHINESE}}], "category: the language 'zh' is there twice"),
        ([CATEGORY | {"labels": {"zh": CHINESE | {"phrases": ["连衣裙"]}}}], "1 labels of 3 words in 'zh'"),
        ([CATEGORY | {"labels": {"zh": {"kind": "品类"}}}], "0 labels of 3 words in 'zh'"),
        ([CATEGORY | {"labels": {"zh": CHINESE | {"kind": " "}}}], "the label ' ' shows nothing"),
        ([CATEGORY | {"labels": {"zh": CHINESE | {"phrases": ["裙", "\u200b", "帽子"]}}}], "shows nothing"),
        ([CATEGORY | {"labels": {"zh": CHINESE | {"phrases": ["裙", "\ud800", "帽子"]}}}], "half a character"),
        ([CATEGORY | {"labels": {"zh": CHINESE | {"phrases": ["裙", "半身裙，短", "帽子"]}}}], "has a comma"),
        ([CATEGORY | {"labels": {"zh": CHINESE | {"phrases": ["裙", "裙 ", "帽子"]}}}], "'裙' is there twice in 'zh'"),
        ([CATEGORY | {"labels": {"zh": CHINESE | {"phrases": ["Ｈａｔ", "裙", "帽子"]}}}], "could be 'hat' or 'Dress'"),
        (
            [LABELLED, SLEEVE | {"labels": {"de": {"kind": "Ärmel", "phrases": ["ärmellos", "帽子"]}}}],
            "the label '帽子' could be 'hat' or 'long sleeves'",
        ),
        (
            [LABELLED, SLEEVE | {"labels": {"zh": {"kind": "品类", "phrases": ["无袖", "长袖"]}}}],
            r"the label 品类 \(zh\) is there twice",
        ),
        ([CATEGORY, {"kind": "hem", "phrases": ["\ud800"]}], "has half a character"),
    ],
)
def test_what_is_wrong_is_named(entries: object, told: str, tmp_path: Path) -> None:
    path = tmp_path / "phrases.json"
    path.write_text(json.dumps(entries))
    with pytest.raises(VocabularyError, match=f"phrases.json: .*{told}"):
        Vocabulary.read(path)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    vocabulary().write(tmp_path / "phrases.json")
    read = Vocabulary.read(tmp_path / "phrases.json")
    assert read == vocabulary()
    assert [kind.labels for kind in read.kinds] == [kind.labels for kind in vocabulary().kinds]


def test_labels_make_no_other_vocabulary() -> None:
    plain, labelled = Vocabulary.from_json([CATEGORY, SLEEVE]), Vocabulary.from_json([LABELLED, SLEEVE])
    assert labelled == plain and hash(labelled) == hash(plain) and repr(labelled) == repr(plain)
    assert labelled.to_json() == plain.to_json() == [CATEGORY, SLEEVE]
    assert labelled.to_json(labels=True) == [LABELLED, SLEEVE] and "labels" not in plain.to_text()


def test_a_label_may_be_one_phrases_in_two_languages_and_its_own_phrase() -> None:
    labels = {
        "de": {"kind": "Teil", "phrases": ["dress", "Rock", "Hut"]},
        "nl": {"kind": "Deel", "phrases": ["Jurk", "rock", "Hoed"]},
    }
    words = Vocabulary.from_json([CATEGORY | {"labels": labels}])
    assert words.kinds[0].labels[1] == Labels("nl", "Deel", ("Jurk", "rock", "Hoed"))
    assert words.canonical("ROCK,dress") == "skirt,Dress"
    assert words.labels_of == {"dress": {"dress", "jurk"}, "skirt": {"rock"}, "hat": {"hut", "hoed"}}


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("连衣裙", "Dress"),
        ("Rock，连衣裙、长袖", "skirt,Dress,长袖"),  # the last is no label here
        (" 连衣 裙 , 帽子\u200b\n something  Else,", " 连衣 裙 ,hat,something  Else,"),
        ("大连衣裙", "大连衣裙"),  # a part of a phrase is none
        (" DRESS , nothing  known、", " DRESS , nothing  known、"),  # without labels nothing is touched
        ("", ""),
    ],
)
def test_a_label_is_read_as_its_phrase_and_all_else_as_it_is_typed(typed: str, read: str) -> None:
    words = Vocabulary.from_json([LABELLED, SLEEVE])
    assert words.canonical(typed) == read
    assert words.canonical(read) == read


def test_phrases_that_are_told_are_the_typed_ones() -> None:
    words = Vocabulary.from_json([LABELLED, SLEEVE])
    prompt = "裙，Rock,ｓｋｉｒｔ, 长袖,LONG sleeves,连衣裙,裙"
    assert words.typed(prompt, ["skirt", "long sleeves", "裙"]) == ("裙", "Rock", "LONG sleeves")
    assert words.typed(prompt, []) == () and words.typed("", ["skirt"]) == ()


def test_prompts_are_understood_however_they_are_written() -> None:
    words = Vocabulary.from_json([CATEGORY, SLEEVE])
    assert words.asked(" DRESS , something else,Long Sleeves") == {"category": "dress", "sleeve": "long sleeves"}
    assert words.asked("dress,skirt") == {"category": "skirt"}
    assert words.asked("ＤＲＥＳＳ、long\u00a0 sleeves\u200b") == {"category": "dress", "sleeve": "long sleeves"}


def test_a_kind_needs_what_it_says_unless_that_is_open() -> None:
    words = Vocabulary.from_json([CATEGORY, SLEEVE, CUFF])
    *_, cuff = words.kinds
    assert isinstance(cuff, PhraseKind)
    assert words.could_have(cuff, {"category": "dress"})
    assert words.could_have(cuff, {"category": "dress", "sleeve": "long sleeves"})
    assert not words.could_have(cuff, {"category": "dress", "sleeve": "sleeveless"})
    assert not words.could_have(cuff, {"category": "skirt"})
    deep = Vocabulary.from_json([CATEGORY, SLEEVE, CUFF | {"only_with": [["long sleeves"]]}])
    assert deep.could_have(deep.kinds[2], {"category": "dress"})
    assert not deep.could_have(deep.kinds[2], {"category": "skirt"})  # it cannot have the sleeves that cuffs need
