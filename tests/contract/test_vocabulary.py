"""phrases.json: what is refused and by which words, and what goes together."""

import json
from pathlib import Path

import pytest

from contract.errors import VocabularyError
from contract.vocabulary import PhraseKind, Vocabulary
from lab.market.prompts import vocabulary

CATEGORY = {"kind": "category", "phrases": ["Dress", "skirt", "hat"]}
SLEEVE = {"kind": "sleeve", "phrases": ["sleeveless", "long sleeves"], "only_with": [["dress"]]}
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
    assert Vocabulary.read(tmp_path / "phrases.json") == vocabulary()


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
