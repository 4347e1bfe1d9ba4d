"""Buyers of a simulated market whose taste is not the merchants', what they order, and what a training is to learn.

A merchant's buyers share some of what the merchant's profile likes, and have a taste of their own: one part that all
buyers have, one that the buyers of a style have. The log of an item's expected orders is that taste of what it shows.
So a pick says what the merchant likes, and orders of what was picked say what buyers like. Only evaluations may import
this module, no model: it is the answer sheet. Words only, no pictures: what a candidate shows is read with a chance of
error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from contract.wishes import VARIETY, wishes
from lab.history.evaluation import CANDIDATES, VOCABULARY, garment_of
from lab.market.attributes import BY_KIND, Garment, to_indices
from lab.market.merchants import FEATURE_SCHEMA, STYLES, WEIGHTS_LENGTH, Merchant, merchant
from lab.market.prompts import PHRASE_OF, write
from lab.market.rounds import Round, choose_one, play
from lab.market.taste import feature_weights, score, taste_weights
from training.common.metrics import rank_metrics
from training.data.groups import GroupTensors
from training.data.table import Candidate, Group
from training.retraining.orders import Orders
from training.wishes.preferences import PreferenceWeights

FIRST_UNSEEN = 100_000  # numbers of merchants that no training here has
_PLACES = {meaning: VOCABULARY.places[phrase] for meaning, phrase in PHRASE_OF.items()}


@dataclass(frozen=True)
class Market:
    """What the simulation draws from."""

    groups: int = 3_000  # that train
    merchants: int = 1_000
    unseen: int = 100  # merchants by whom favours are measured
    held_out: int = 10  # groups of each of them
    shared: float = 0.1  # how much of what a profile likes its buyers like
    common: float = 0.2  # deviation of buyers' own weights of values
    of_style: float = 0.2  # the same of what differs between the buyers of styles
    listed: float = 0.7  # of picks
    units: float = 3.0  # ordered of the typical listed item; of one that buyers like e times more, e times as many
    burst: float = 0.5  # squared coefficient of variation of an item's orders that nothing explains
    returned: float = 0.15  # of units
    wrong: float = 0.03  # chance of a value that is read or drawn wrongly
    informative: bool = True  # False: all listed items sell alike, and orders are chance


@dataclass(frozen=True, eq=False)
class Buyers:
    """The taste of all buyers, of one seed."""

    market: Market
    common: np.ndarray  # (WEIGHTS_LENGTH,)
    of_style: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, market: Market, seed: int) -> "Buyers":
        rng = np.random.default_rng((seed, 51))
        common = rng.normal(0, market.common, WEIGHTS_LENGTH)
        return cls(market, common, {style: rng.normal(0, market.of_style, WEIGHTS_LENGTH) for style in STYLES})

    def demand(self, who: Merchant, garment: Garment) -> float:
        """The log of how many times the typical item's orders this one gets in the merchant's shop."""
        weights = self.common + self.of_style[str(who.features["style"])]
        weights = _centred(weights + self.market.shared * feature_weights(who.features))
        return float(weights[[_PLACES[meaning] for meaning in garment.items()]].sum())


def _centred(weights: np.ndarray) -> np.ndarray:
    parts = np.split(weights, np.cumsum(VOCABULARY.sizes)[:-1])
    return np.concatenate([part - part.mean() for part in parts])


@dataclass(frozen=True, eq=False)
class Sold:
    """Groups with picks, and what was ordered of these, returns taken off."""

    tensors: GroupTensors
    tags: np.ndarray  # (N, K, kinds)
    groups: Sequence[Group]
    units: Mapping[tuple[str, str], int]

    def counting(self, weight: float) -> GroupTensors:
        """The groups as a retraining with this weight of orders sees them."""
        if not weight:
            return self.tensors
        orders = Orders(self.units, weight)
        counts = np.stack([orders.counts(group) for group in self.groups])
        weights = np.array([orders.worth(group) for group in self.groups], np.float32)
        return replace(self.tensors, counts=counts, weights=weights)


def sell(market: Market, buyers: Buyers, seed: int) -> Sold:
    """Plays the groups that train, lists picks, and has them ordered."""
    rng = np.random.default_rng((seed, 52))
    rounds = [play(merchant(n % market.merchants, seed), CANDIDATES, rng) for n in range(market.groups)]
    groups, units = list[Group](), dict[tuple[str, str], int]()
    for n, played in enumerate(rounds):
        shown = tuple(Candidate(f"{n}-{k}", bool(picked)) for k, picked in enumerate(played.selected))
        groups.append(Group(f"{n}", played.merchant.user_id, played.prompt, shown, played.merchant.features))
        for k in np.flatnonzero(played.selected):
            if rng.random() < market.listed and (net := _net_units(market, buyers, played, int(k), rng)):
                units[f"{n}", f"{n}-{k}"] = net
    features = np.array([FEATURE_SCHEMA.encode(played.merchant.features).slots for played in rounds])
    selected = np.stack([played.selected for played in rounds])
    tensors = GroupTensors(FEATURE_SCHEMA, features, selected, np.zeros((len(rounds), 1, 77), np.int64))
    tags = np.stack([[to_indices(_read(g, market.wrong, rng)) for g in played.garments] for played in rounds])
    return Sold(tensors, tags, groups, units)


def _net_units(market: Market, buyers: Buyers, played: Round, k: int, rng: np.random.Generator) -> int:
    demand = buyers.demand(played.merchant, played.garments[k]) if market.informative else 0.0
    ordered = rng.poisson(market.units * np.exp(demand) * rng.gamma(1 / market.burst, market.burst))
    return int(ordered - rng.binomial(ordered, market.returned))


def _read(garment: Garment, wrong: float, rng: np.random.Generator) -> Garment:
    return {k: str(rng.choice(BY_KIND[k].values)) if rng.random() < wrong else v for k, v in garment.items()}


def worth(market: Market, buyers: Buyers, preferences: PreferenceWeights, seed: int) -> dict[str, float]:
    """What favours are worth to merchants that no training saw, and to their buyers; the same draws for all favours.

    picks      GAUC of what the merchant picks of groups that the market shows
    orders     GAUC of what a buyer orders who orders one of such a group
    utility    true utility, to the merchant, of what is picked of five pictures drawn with the favours' wishes
    sales      expected units of that picture, in those of the typical item
    """
    rng = np.random.default_rng((seed, 53))
    scores, picked, ordered = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    utilities, sales = list[float](), list[float]()
    people = [merchant(FIRST_UNSEEN + n, seed) for n in range(market.unseen)]
    favours = preferences.of(np.array([FEATURE_SCHEMA.encode(who.features).slots for who in people]))
    for number, (who, of) in enumerate(zip(people, favours, strict=True)):
        weights = taste_weights(who)
        for n in range(market.held_out):
            played = play(who, CANDIDATES, rng)
            scores.append(np.array([of[[_PLACES[m] for m in g.items()]].sum() for g in played.garments]))
            picked.append(played.selected)
            wanted = np.array([buyers.demand(who, garment) for garment in played.garments])
            ordered.append(np.arange(CANDIDATES) == choose_one(wanted, rng))
            drawn = np.random.default_rng((seed, 54, number, n))  # apart: favours decide how many numbers are drawn
            prompt, noise = write(played.asked), drawn.gumbel(size=(CANDIDATES, len(of)))
            wished = [wishes(VOCABULARY, prompt, of, each, variety=VARIETY) for each in noise]
            shown = [garment_of(played.asked, each, market.wrong, drawn) for each in wished]
            values = np.array([score(weights, garment, played.asked) for garment in shown])
            best = choose_one(values, np.random.default_rng((seed, 55, number, n)))
            utilities.append(float(values[best]))
            sales.append(float(np.exp(buyers.demand(who, shown[best]))))
    by_favours = np.stack(scores)
    return {
        "picks": rank_metrics(by_favours, np.stack(picked)).gauc,
        "orders": rank_metrics(by_favours, np.stack(ordered)).gauc,
        "utility": float(np.mean(utilities)),
        "sales": float(np.mean(sales)),
    }
