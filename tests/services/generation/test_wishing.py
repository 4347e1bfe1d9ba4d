"""What each candidate is wished, and how much it counts."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from contract.prompts import phrases_of
from services.generation.orders import Order, Settings, User
from services.generation.seeds import candidate_seeds
from services.generation.wishing import blended, wishes_of
from tests.services.generation.fakes import USER
from tests.services.market import release_of

SEEDS = candidate_seeds(7, 16)
SETTINGS = Settings(
    num_steps=4,
    guidance_scale=4.0,
    adapter_scale=1.0,
    sampler="ddim",
    seed=7,
    strength=None,
    reference_image_sha256="",
    refused_wishes=(),
    variety=0.15,
)


def order(prompt: str = "red,dress", **settings: Any) -> Order:
    return Order(
        request_id="r",
        fingerprint="f",
        user_id="ada",
        prompt=prompt,
        negative_prompt="",
        num_candidates=16,
        settings=replace(SETTINGS, **settings),
        reference=None,
        preview_every_n_steps=0,
        may_explore=True,
    )


def wished(asked: Order, user: User = USER, seeds: list[int] = SEEDS, room: int = 99) -> list[tuple[str, ...]]:
    """By a text encoder that reads so many phrases."""
    return wishes_of(asked, user, release_of(1), seeds, lambda text: phrases_of(text)[room:])


def test_what_a_merchant_clearly_favours_stays_and_what_they_hardly_care_about_varies() -> None:
    found = wished(order())
    assert {wishes[0] for wishes in found} == {"sequins"}
    assert {wishes[1:] for wishes in found} == {("long sleeves",), ("bell sleeves",)}


def test_the_same_seed_has_the_same_wishes_alone_or_beside_others() -> None:
    found = wished(order())
    assert wished(order()) == found
    assert [wished(order(), seeds=[seed])[0] for seed in SEEDS] == found


@pytest.mark.parametrize("prompt", ["red", "a picture of somebody in a hurry", "dresses"])
def test_a_prompt_without_category_gets_none(prompt: str) -> None:
    assert wished(order(prompt)) == [()] * 16


def test_free_text_beside_a_category_is_left_as_it_is() -> None:
    assert {wishes[0] for wishes in wished(order("something for the opera, Dress"))} == {"sequins"}


def test_what_the_prompt_says_or_leaves_no_place_for_is_not_wished() -> None:
    assert wished(order("dress,sleeveless,hand-sewn ruffles")) == [()] * 16
    assert wished(order("trousers")) == [("sequins",)] * 16


def test_an_unknown_merchant_gets_none() -> None:
    unknown = replace(USER, favours=USER.favours / 10)  # none is favoured clearly
    assert wished(order(), unknown) == [()] * 16


def test_a_refused_phrase_gives_way_to_the_next_best_of_its_kind() -> None:
    assert wished(order(refused_wishes=("LONG sleeves",))) == [("sequins", "bell sleeves")] * 16
    assert {wishes[0] for wishes in wished(order(refused_wishes=("sequins",)))} == {"long sleeves", "bell sleeves"}


def test_without_personalisation_nothing_is_wished() -> None:
    assert wished(order(adapter_scale=0.0)) == [()] * 16
    assert wished(order(adapter_scale=0.01)) == wished(order(adapter_scale=2.0)) == wished(order())


def test_the_least_favoured_are_dropped_until_the_text_is_read_whole() -> None:
    assert wished(order(), room=3) == [("sequins",)] * 16
    assert wished(order(), room=2) == [()] * 16
    assert wished(order(), room=1) == [()] * 16


def test_states_are_blended_in_proportion_and_exactly_at_both_ends() -> None:
    plain, wishing = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    assert np.array_equal(blended(plain, wishing, 0.0), plain)
    assert np.array_equal(blended(plain, wishing, 1.0), wishing)
    for scale in (0.5, 2.0):
        np.testing.assert_allclose(blended(plain, wishing, scale), plain + scale * (wishing - plain), rtol=1e-5)
    assert blended(plain, wishing, 0.5).dtype == np.float32
