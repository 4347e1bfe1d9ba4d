"""How merchants vary is learnt from picks whose merchants were drawn from a known distribution."""

from dataclasses import dataclass

import numpy as np
import pytest

from contract.feature_schema import Feature, FeatureSchema
from contract.history import Choice
from contract.vocabulary import PhraseKind, Vocabulary
from training.data.groups import GroupTensors
from training.wishes.covariance import LEAST_MERCHANTS, _merchant, best_scale, maximised, population
from training.wishes.fitting import Fit
from training.wishes.preferences import PreferenceWeights

VOCABULARY = Vocabulary((PhraseKind("category", ("dress",)), PhraseKind("trim", ("no trim", "bow", "sequins"))))
SCHEMA = FeatureSchema((Feature("style", "categorical", ("plain", "romantic")),))
STYLES = np.array([[2.0, -1.0, -1.0], [-1.0, 2.0, -1.0]])  # what a style says of trims
INDIVIDUAL = 0.8  # standard deviation of what no style says, of each phrase before centring


@dataclass(frozen=True, eq=False)
class Played:
    groups: GroupTensors
    tags: np.ndarray
    found: Fit


def played(merchants: int, each: int, seed: int = 0) -> Played:
    """Merchants who pick one of four by their style's taste and their own; their groups come mixed."""
    rng = np.random.default_rng(seed)
    styles, own = rng.integers(2, size=merchants), rng.normal(0, INDIVIDUAL, (merchants, 3))
    whose = rng.permutation(np.repeat(np.arange(merchants), each))
    trims = rng.integers(3, size=(len(whose), 4))
    utility = np.take_along_axis((STYLES[styles] + own)[whose], trims, 1) + rng.gumbel(size=trims.shape)
    selected = utility == utility.max(1, keepdims=True)
    groups = GroupTensors(
        SCHEMA, 1 + styles[whose][:, None], selected, np.zeros((len(whose), 1, 77), np.int64),
        user_ids=np.array([f"merchant-{who}" for who in whose]),
    )  # fmt: skip
    tags = np.stack([np.zeros_like(trims), trims], axis=-1)
    return Played(groups, tags, Fit(PreferenceWeights(SCHEMA, VOCABULARY), 1e-4, np.zeros(1), np.ones(1)))


def picks_of(market: Played) -> tuple[list[tuple[Choice, ...]], np.ndarray]:
    """Each merchant's picks, and what the truth says of the merchant's style, (U, V)."""
    users = np.asarray(market.groups.user_ids)
    rows = [np.flatnonzero(users == name) for name in np.unique(users)]
    styles = STYLES[np.array([market.groups.features[of[0], 0] - 1 for of in rows])]
    picks = [_merchant(market.tags, market.groups, VOCABULARY, of).choices for of in rows]
    return picks, np.column_stack([np.zeros(len(rows)), styles])


CENTRED = np.eye(3) - 1 / 3
TRUE = np.zeros((4, 4))  # about what a style says; the category, a kind's only phrase, is no choice
TRUE[1:, 1:] = INDIVIDUAL**2 * CENTRED


def test_the_covariance_is_that_which_merchants_were_drawn_with() -> None:
    picks, means = picks_of(played(merchants=100, each=16))
    found = maximised(picks, means, VOCABULARY)
    assert np.trace(found) == pytest.approx(np.trace(TRUE), rel=0.4)
    assert found.sum(1) == pytest.approx(0, abs=1e-9) and not found[0].any()


def test_a_covariance_far_from_the_truth_is_scaled_towards_it() -> None:
    picks, means = picks_of(played(merchants=100, each=16))
    assert best_scale(TRUE / 8, picks, means) > 1 > best_scale(TRUE * 8, picks, means)


def test_of_all_merchants_it_is_larger_by_what_profiles_say() -> None:
    market = played(merchants=100, each=16)
    found = population(market.tags, market.groups, VOCABULARY, market.found)
    assert found is not None
    assert np.trace(found.covariance) > 1.5 * np.trace(found.residual) > 0.3 * np.trace(TRUE)
    apart = np.array([0, 1, -1, 0])  # what the styles differ in
    assert apart @ found.covariance @ apart > 2 * apart @ found.residual @ apart
    assert found.mean[1:] == pytest.approx(STYLES.mean(0), abs=0.5)
    assert found.mean[0] == pytest.approx(0) and not found.covariance[0].any()


def test_a_fold_is_not_told_of_by_its_own_merchants_picks() -> None:
    """One style a merchant: weights that had seen a merchant's picks would leave no residual, others know nothing."""
    market = played(merchants=LEAST_MERCHANTS, each=12)
    names = tuple(f"merchant-{who}" for who in range(LEAST_MERCHANTS))
    schema = FeatureSchema((Feature("user_id", "categorical", names),))
    codes = np.array([[1 + names.index(name)] for name in market.groups.user_ids])
    by_id = GroupTensors(
        schema, codes, market.groups.selected, market.groups.input_ids, user_ids=market.groups.user_ids
    )
    found = population(market.tags, by_id, VOCABULARY, market.found)
    assert found is not None
    assert np.trace(found.residual) > 0.7 * np.trace(found.covariance)


def test_the_same_groups_give_the_same_numbers() -> None:
    market = played(merchants=LEAST_MERCHANTS, each=4)
    found = [population(market.tags, market.groups, VOCABULARY, market.found) for _ in range(2)]
    assert found[0] is not None and found[1] is not None
    assert found[0].to_text() == found[1].to_text()


@pytest.mark.parametrize("market", [played(LEAST_MERCHANTS - 1, 4), played(400, 1)], ids=["few", "one pick each"])
def test_of_too_few_merchants_with_several_picks_nothing_is_said(market: Played) -> None:
    assert population(market.tags, market.groups, VOCABULARY, market.found) is None


def test_without_names_of_merchants_nothing_is_said() -> None:
    market = played(LEAST_MERCHANTS, 4)
    unnamed = GroupTensors(SCHEMA, market.groups.features, market.groups.selected, market.groups.input_ids)
    assert population(market.tags, unnamed, VOCABULARY, market.found) is None
