"""Simulated buyers: orders follow a taste that is not the merchants', and count as a retraining counts them."""

from dataclasses import replace

import numpy as np
import pytest

from lab.history.evaluation import CANDIDATES, VOCABULARY
from lab.market.merchants import FEATURE_SCHEMA, merchant
from lab.market.rounds import play
from lab.shop.demand import Buyers, Market, sell, worth
from training.wishes.preferences import PreferenceWeights

MARKET = Market(groups=200, merchants=60, unseen=8, held_out=6)


def test_demand_is_what_buyers_like_over_the_mean_of_what_could_be_shown() -> None:
    buyers, who = Buyers.of(MARKET, 0), merchant(0)
    shown = [g for n in range(200) for g in play(who, CANDIDATES, np.random.default_rng(n)).garments]
    demands = np.array([buyers.demand(who, garment) for garment in shown])
    assert 0.5 < demands.std() < 1.5
    alike = Buyers.of(replace(MARKET, shared=0, common=0, of_style=0), 0)
    assert all(alike.demand(who, garment) == 0 for garment in shown[:5])


@pytest.mark.parametrize("informative", [True, False])
def test_only_picks_are_sold_and_more_of_what_buyers_like(informative: bool) -> None:
    market = replace(MARKET, groups=400, listed=1.0, informative=informative)
    buyers = Buyers.of(market, 1)
    sold = sell(market, buyers, 1)
    picked = {(g.group_id, c.image_id) for g in sold.groups for c in g.candidates if c.selected}
    assert sold.units.keys() <= picked and min(sold.units.values()) > 0
    rng, liked, units = np.random.default_rng((1, 52)), list[float](), list[float]()
    rounds = [play(merchant(n % market.merchants, 1), CANDIDATES, rng) for n in range(market.groups)]  # as they were
    for n, played in enumerate(rounds):
        for k in np.flatnonzero(played.selected):
            liked.append(buyers.demand(played.merchant, played.garments[k]))
            units.append(np.log1p(sold.units.get((f"{n}", f"{n}-{k}"), 0)))
    assert np.corrcoef(liked, units)[0, 1] > 0.5 if informative else abs(np.corrcoef(liked, units)[0, 1]) < 0.2


def test_a_weight_counts_what_sold_and_none_leaves_the_groups_alone() -> None:
    sold = sell(MARKET, Buyers.of(MARKET, 2), 2)
    assert sold.counting(0.0) is sold.tensors
    counted = sold.counting(0.5)
    assert counted.counts is not None and counted.weights is not None
    (group_id, image_id), units = next(iter(sold.units.items()))
    row, k = int(group_id), int(image_id.split("-")[1])
    assert counted.counts[row, k] == pytest.approx(1 + 0.5 * np.log1p(units))
    picks = counted.selected[row]
    assert counted.weights[row] == pytest.approx(counted.counts[row][picks].mean())
    assert (counted.counts[~counted.selected] == 1).all()


def test_favours_that_are_the_buyers_taste_rank_their_orders_and_sell_more() -> None:
    market = replace(MARKET, unseen=20, of_style=0.0, shared=0.0, common=0.6)
    buyers = Buyers.of(market, 3)
    nothing = PreferenceWeights(FEATURE_SCHEMA, VOCABULARY)
    liked = PreferenceWeights(FEATURE_SCHEMA, VOCABULARY, nothing.weights.clone())
    liked.weights[-1] = liked.weights.new_tensor(buyers.common)  # the population's average
    before, after = (worth(market, buyers, of, 3) for of in (nothing, liked))
    assert before["orders"] == 0.5 and after["orders"] > 0.7
    assert after["sales"] > 1.5 * before["sales"]
