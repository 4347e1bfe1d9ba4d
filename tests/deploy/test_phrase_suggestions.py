"""Phrase suggestions against the truth, of suggestions whose worth is known."""

from types import SimpleNamespace
from typing import Any

import pytest

from deploy.benchmarks.phrase_suggestions import TOP, _gain, _suggested
from lab.market.merchants import Merchant, merchant
from lab.market.prompts import PHRASE_OF

PROMPT = "dress,red"


@pytest.fixture
def who() -> Merchant:
    return merchant(5)


def of_worth(who: Merchant) -> list[str]:
    """Phrases that fit the prompt, those that gain most first."""
    gains = {phrase: _gain(who, PROMPT, phrase) for phrase in PHRASE_OF.values() if phrase not in PROMPT.split(",")}
    return sorted((phrase for phrase, gain in gains.items() if gain == gain), key=lambda phrase: -gains[phrase])


def suggesting(phrases: list[str]) -> Any:
    """Clients of a service that suggests these, best first."""
    suggestions = [SimpleNamespace(phrase=phrase, score=-float(place)) for place, phrase in enumerate(phrases)]
    answer = SimpleNamespace(suggestions=suggestions)
    return SimpleNamespace(generation=SimpleNamespace(SuggestPhrases=lambda query, timeout: answer))


def test_the_best_order_agrees_wholly_and_its_reverse_not_at_all(who: Merchant) -> None:
    phrases = of_worth(who)
    best, worst = (_suggested(suggesting(order), who, PROMPT) for order in (phrases, phrases[::-1]))
    assert best["agreement"] == pytest.approx(1) and worst["agreement"] == pytest.approx(-1)
    assert best["top"] == pytest.approx(best["at_most"]) and worst["top"] < 0 < best["top"]
    assert best["liked"] == 1 and worst["liked"] == 0 and best["out_of_place"] == 0


def test_suggestions_of_no_opinion_neither_agree_nor_disagree(who: Merchant) -> None:
    clients = suggesting(of_worth(who))
    for suggestion in clients.generation.SuggestPhrases(None, None).suggestions[::2]:
        suggestion.score = 0.0
    for suggestion in clients.generation.SuggestPhrases(None, None).suggestions[1::2]:
        suggestion.score = 1.0
    assert abs(_suggested(clients, who, PROMPT)["agreement"]) < 0.1


def test_what_a_garment_cannot_have_is_out_of_place_and_gains_nothing(who: Merchant) -> None:
    assert _gain(who, "trousers,red", "bell sleeves") != _gain(who, "trousers,red", "bell sleeves")  # NaN
    phrases = ["bell sleeves", *(p for p in of_worth(who) if p in ("black", "white", "beige", "brown"))]
    found = _suggested(suggesting(phrases), who, "trousers")
    assert found["out_of_place"] == pytest.approx(1 / TOP)
