"""Wishes: for whom, of which kinds, which phrase, and in which order."""

import numpy as np
import pytest

from contract.vocabulary import Vocabulary
from contract.wishes import LEAST_FAVOUR, is_known, wishes, with_wishes

WORDS = Vocabulary.from_json([
    {"kind": "category", "phrases": ["Dress", "skirt"]},
    {"kind": "sleeve", "phrases": ["sleeveless", "Long sleeves"], "only_with": [["dress"]]},
    {"kind": "cuff", "phrases": ["wide cuffs", "narrow cuffs"], "only_with": [["long sleeves"]]},
    {"kind": "colour", "phrases": ["red", "blue", "green"]},
    {"kind": "belt", "phrases": ["belted"]},
])  # fmt: skip


def favouring(**by_phrase: float) -> np.ndarray:
    """Favours (V,) of these phrases, blanks written as underscores; nothing of the others."""
    places = {phrase.casefold().replace(" ", "_"): n for n, (_, phrase) in enumerate(WORDS.phrases)}
    favours = np.zeros(len(places))
    for phrase, favour in by_phrase.items():
        favours[places[phrase]] = favour
    return favours


TASTE = favouring(long_sleeves=1.0, narrow_cuffs=0.5, blue=2.0, green=1.0)


def gumbel(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).gumbel(size=len(TASTE))


def test_the_favourite_of_every_open_kind_is_wished_for_and_what_is_favoured_most_comes_first() -> None:
    assert wishes(WORDS, "dress", TASTE) == ["blue", "Long sleeves", "narrow cuffs"]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("dress,red", ["Long sleeves", "narrow cuffs"]),
        ("dress,blue,long sleeves", ["narrow cuffs"]),
        ("dress,green,long sleeves,wide cuffs", []),
    ],
)
def test_what_a_prompt_names_is_not_wished_otherwise(prompt: str, expected: list[str]) -> None:
    assert wishes(WORDS, prompt, TASTE) == expected


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("skirt", ["blue"]),  # no sleeves, and so no cuffs
        ("dress,sleeveless", ["blue"]),
        ("dress,long sleeves", ["blue", "narrow cuffs"]),
    ],
)
def test_what_the_garment_cannot_have_is_not_wished_however_many_steps_away_the_reason_is(
    prompt: str, expected: list[str]
) -> None:
    assert wishes(WORDS, prompt, TASTE) == expected


def test_a_wish_decides_what_may_be_wished_after_it() -> None:
    bare = favouring(sleeveless=0.5, narrow_cuffs=3.0)
    assert "narrow cuffs" not in wishes(WORDS, "dress", bare)
    assert wishes(WORDS, "dress", bare, refused=["sleeveless"])[:2] == ["narrow cuffs", "Long sleeves"]


@pytest.mark.parametrize("prompt", ["", "red", "something else", "red dress", "blouse,red"])
def test_nothing_is_wished_where_no_category_is_named(prompt: str) -> None:
    assert wishes(WORDS, prompt, TASTE) == []


def test_free_text_stands_beside_what_is_understood() -> None:
    assert wishes(WORDS, "made of silk,dress,for the beach", TASTE) == wishes(WORDS, "dress", TASTE)


def test_letters_large_and_small_and_blanks_make_no_difference() -> None:
    assert wishes(WORDS, " DRESS , LONG Sleeves", TASTE) == wishes(WORDS, "dress,long sleeves", TASTE)
    assert wishes(WORDS, "dress", TASTE, refused=[" BLUE "]) == wishes(WORDS, "dress", TASTE, refused=["blue"])


def test_nothing_is_wished_for_an_unknown_merchant() -> None:
    for unknown in (np.zeros(len(TASTE)), favouring(blue=LEAST_FAVOUR - 1e-6), favouring(dress=5.0)):
        assert not is_known(WORDS, unknown)
        assert wishes(WORDS, "dress", unknown) == wishes(WORDS, "dress", unknown, gumbel(0)) == []
    assert is_known(WORDS, favouring(blue=LEAST_FAVOUR))
    assert not is_known(Vocabulary(WORDS.kinds[:1]), np.array([5.0, 5.0]))


def test_a_refused_phrase_may_be_written_as_it_is_typed() -> None:
    for typed in ("BLUE", "\u200bｂｌｕｅ\n", "something，blue"):
        assert wishes(WORDS, "dress", TASTE, refused=[typed])[:2] == ["Long sleeves", "green"]
    assert wishes(WORDS, "dress", TASTE, refused=["，", ""]) == wishes(WORDS, "dress", TASTE)


def test_noise_changes_only_what_is_hardly_favoured() -> None:
    favours = favouring(blue=3.0, sleeveless=0.02)
    drawn = [wishes(WORDS, "dress", favours, gumbel(seed)) for seed in range(200)]
    assert all(found[0] == "blue" for found in drawn)
    sleeveless = np.mean(["sleeveless" in found for found in drawn])
    assert 0.4 < sleeveless < 0.7  # a little more often than not
    assert all("sleeveless" in found or "Long sleeves" in found for found in drawn)


def test_the_same_noise_wishes_the_same() -> None:
    favours = favouring(blue=0.3)
    first, again = (wishes(WORDS, "dress", favours, gumbel(7)) for _ in range(2))
    assert first == again and len({tuple(wishes(WORDS, "dress", favours, gumbel(n))) for n in range(50)}) > 1


def test_in_a_refused_phrases_place_comes_the_next_best() -> None:
    assert wishes(WORDS, "dress", TASTE, refused=["blue"])[:2] == ["Long sleeves", "green"]
    assert "red" in wishes(WORDS, "dress", TASTE, refused=["blue", "green"])


def test_of_a_kind_that_is_refused_altogether_nothing_is_wished() -> None:
    assert wishes(WORDS, "dress", TASTE, refused=["red", "blue", "green"]) == ["Long sleeves", "narrow cuffs"]


def test_refusing_what_the_vocabulary_does_not_know_changes_nothing() -> None:
    assert wishes(WORDS, "dress", TASTE, refused=["turquoise", ""]) == wishes(WORDS, "dress", TASTE)


def test_the_only_phrase_of_a_kind_is_no_choice_and_never_wished() -> None:
    assert "belted" not in wishes(WORDS, "dress", favouring(belted=9.0, blue=1.0))


def test_wishes_follow_the_prompt_as_it_was_written() -> None:
    assert with_wishes("Dress, made of silk", ["blue", "Long sleeves"]) == "Dress, made of silk,blue,Long sleeves"
    assert with_wishes("dress", []) == "dress"
