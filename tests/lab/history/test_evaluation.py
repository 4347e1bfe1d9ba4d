"""What favours are worth is measured by the truth: nothing beats it, and picks bring a wrong profile nearer to it."""

import numpy as np
import pytest

from contract.history import Population
from contract.wishes import wishes
from lab.history.evaluation import GROUPS, VOCABULARY, Known, evaluate, favours_after, garment_of, true_favours, worth
from lab.market.merchants import merchant
from lab.market.prompts import MEANING_OF

MERCHANTS = [merchant(70_000 + n) for n in range(4)]


def population() -> Population:
    centred = np.eye(len(VOCABULARY.phrases))
    for start, size in zip(np.cumsum([0, *VOCABULARY.sizes[:-1]]), VOCABULARY.sizes, strict=True):
        centred[start : start + size, start : start + size] -= 1 / size
    return Population(np.zeros(len(centred)), 2 * centred, 0.5 * centred)


def test_true_favours_are_centred_and_worth_all() -> None:
    favours = true_favours(MERCHANTS[0])
    for part in np.split(favours, np.cumsum(VOCABULARY.sizes)[:-1]):
        assert part.sum() == pytest.approx(0)
    found = worth(MERCHANTS[0], favours, 0, 0.0)
    assert found["gain"] == found["best"] > 0
    assert worth(MERCHANTS[0], -favours, 0, 0.0)["gain"] < 0
    assert worth(MERCHANTS[0], np.zeros_like(favours), 0, 0.0)["gain"] == 0


def test_a_picture_shows_prompt_and_wishes_where_nothing_goes_wrong() -> None:
    asked, rng = {"category": "dress", "neckline": "v"}, np.random.default_rng(0)
    wished = wishes(VOCABULARY, "dress,v-neck", true_favours(MERCHANTS[1]))
    garment = garment_of(asked, wished, 0.0, rng)
    assert garment["neckline"] == "v" and len(wished) > 5
    assert [garment[kind] for kind, _ in map(MEANING_OF.get, wished)] == [
        value for _, value in map(MEANING_OF.get, wished)
    ]


@pytest.mark.parametrize("way", ["market", "served"])
def test_before_any_group_favours_are_what_is_known(way: str) -> None:
    known = Known(true_favours(MERCHANTS[0]).astype(np.float32), 0.0)
    found = favours_after(MERCHANTS[0], known, population(), way, 0.0, np.random.default_rng(0))
    assert list(found) == list(GROUPS) and found[0] is known.favours
    assert not np.array_equal(found[GROUPS[-1]], known.favours)


def test_picks_leave_a_wrong_profile() -> None:
    wrong = {
        profile: [Known(-true_favours(who).astype(np.float32), 0.0) for who in MERCHANTS]
        for profile in ("right", "none", "wrong")
    }
    report = evaluate(MERCHANTS, wrong, population(), 0.03)
    shares = [report["wrong profile, market groups"][n]["share"]["mean"] for n in (0, 10, 30)]
    assert shares[0] < 0 and shares[0] + 0.5 < shares[1] < shares[2] < 1
    assert report["ceiling"]["share"]["mean"] == 1
