"""Properties of favours after picks: nothing without picks, the mode of the posterior, and what evidence decides."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from contract import history
from contract.errors import ManifestError
from contract.history import Choice, Population, Prior, choice_of, factor_of, fit, recency
from contract.vocabulary import PhraseKind, Vocabulary

VOCABULARY = Vocabulary((
    PhraseKind("category", ("dress", "coat")),
    PhraseKind("colour", ("black", "white", "red")),
    PhraseKind("trim", ("no trim", "bow")),
))  # fmt: skip
V = 7


def covariance(seed: int, scale: float = 1.0) -> np.ndarray:
    """Of favours: the mean of each kind does not vary."""
    rng = np.random.default_rng(seed)
    centred = np.eye(V)
    for start, size in ((0, 2), (2, 3), (5, 2)):
        centred[start : start + size, start : start + size] -= 1 / size
    root = centred @ rng.normal(size=(V, V))
    return scale * root @ root.T / V


def population(seed: int = 0) -> Population:
    mean = covariance(seed + 1) @ np.ones(V) + 0.3 * covariance(seed + 2)[0]
    return Population(mean, covariance(seed, 2.0), covariance(seed + 3, 0.3))


def choices(seed: int, count: int, taste: np.ndarray | None = None) -> list[Choice]:
    """Groups of two to five candidates with a colour and a trim; picked at random or by `taste` (V,)."""
    rng, found = np.random.default_rng(seed), list[Choice]()
    while len(found) < count:
        size = int(rng.integers(2, 6))
        shown = [(2 + int(rng.integers(3)), 5 + int(rng.integers(2))) for _ in range(size)]
        utility = np.array([0.0 if taste is None else taste[list(places)].sum() for places in shown])
        best = int(np.argmax(utility + rng.gumbel(size=size)))
        phrases = [[VOCABULARY.phrases[place][1] for place in places] for places in shown]
        choice = choice_of(VOCABULARY, phrases, [at == best for at in range(size)])
        found += [choice] if choice else []
    return found


def loss(favours_off: np.ndarray, prior: Prior, picks: list[Choice], weights: np.ndarray) -> float:
    """Minus the log posterior as a loop over groups, in the coordinates of the prior: slow and plain."""
    favours, total = prior.mean + prior.factor @ favours_off, 0.5 * favours_off @ favours_off
    for choice, weight in zip(picks, weights, strict=True):
        utility = np.array([sum(favours[place] for place in places) for places in choice.shown])
        log_p = utility - np.log(np.exp(utility).sum())
        total -= weight * log_p[np.array(choice.picked)].mean()
    return float(total)


def test_without_picks_favours_are_the_very_array_of_the_profile() -> None:
    by_profile = np.random.default_rng(0).normal(size=V).astype(np.float32)
    found = population().favours(by_profile, [])
    assert found is by_profile
    assert fit(Prior(by_profile.astype(float), factor_of(covariance(1))), []).mean.tobytes() == (
        by_profile.astype(float).tobytes()
    )


@given(seed=st.integers(0, 10_000), count=st.integers(1, 20))
@settings(max_examples=25, deadline=None)
def test_the_mean_is_the_mode_that_a_slow_optimiser_finds(seed: int, count: int) -> None:
    rng, picks = np.random.default_rng(seed), choices(seed, count)
    prior = Prior(rng.normal(size=V), factor_of(covariance(seed)))
    weights = recency(count)
    slow = minimize(loss, np.zeros(prior.factor.shape[1]), (prior, picks, weights), tol=1e-10)
    assert fit(prior, picks, weights).mean == pytest.approx(prior.mean + prior.factor @ slow.x, abs=1e-4)


def test_the_evidence_is_the_integral_of_the_likelihood() -> None:
    """One direction, where the integral can be had by quadrature."""
    factor = np.zeros((V, 1))
    factor[5:7, 0] = 0.8, -0.8
    prior, picks = Prior(np.zeros(V), factor), choices(3, 6)
    z = np.linspace(-8, 8, 401)
    density = np.exp([-loss(np.array([at]), prior, picks, np.ones(6)) for at in z]) / np.sqrt(2 * np.pi)
    exact = np.log(np.trapezoid(density, z))
    assert fit(prior, picks).log_evidence == pytest.approx(exact, abs=0.05)  # Laplace's approximation


def test_the_covariance_is_the_inverse_of_the_curvature() -> None:
    prior, picks = Prior(np.zeros(V), factor_of(covariance(4))), choices(4, 8)
    found = fit(prior, picks)
    rank = prior.factor.shape[1]
    at = np.linalg.lstsq(prior.factor, found.mean, rcond=None)[0]
    curvature, h = np.zeros((rank, rank)), 1e-3
    for i in range(rank):
        for j in range(rank):
            step_i, step_j = h * np.eye(rank)[i], h * np.eye(rank)[j]
            corners = [(a, b) for a in (1, -1) for b in (1, -1)]
            values = [a * b * loss(at + a * step_i + b * step_j, prior, picks, np.ones(8)) for a, b in corners]
            curvature[i, j] = sum(values) / (4 * h * h)
    expected = prior.factor @ np.linalg.inv(curvature) @ prior.factor.T
    assert found.factor @ found.factor.T == pytest.approx(expected, abs=1e-3)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_with_equal_weights_the_order_of_groups_and_candidates_decides_nothing(seed: int) -> None:
    prior, picks = Prior(np.zeros(V), factor_of(covariance(seed))), choices(seed, 9)
    rng = np.random.default_rng(seed)
    turned = [
        Choice(tuple(choice.shown[at] for at in order), tuple(choice.picked[at] for at in order))
        for choice in picks
        for order in [rng.permutation(len(choice.picked))]
    ]
    other = [turned[at] for at in rng.permutation(9)]
    assert fit(prior, other).mean == pytest.approx(fit(prior, picks).mean, abs=1e-6)


def test_of_two_orders_the_later_picks_count_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "HALF_LIFE", 4)
    bow = [Choice(((5,), (6,)), (False, True))] * 8
    no_trim = [Choice(((5,), (6,)), (True, False))] * 8
    by_profile = np.zeros(V, np.float32)
    bow_last, bow_first = (population().favours(by_profile, picks) for picks in (no_trim + bow, bow + no_trim))
    assert bow_last[6] > 0.1 and bow_first[6] < bow_last[6] - 0.2


def test_picks_older_than_the_last_say_nothing() -> None:
    old, last = choices(1, 10), choices(2, history.LAST_GROUPS)
    by_profile = np.zeros(V, np.float32)
    found = [population().favours(by_profile, picks).tobytes() for picks in (old + last, last)]
    assert found[0] == found[1]


def test_a_profile_that_foretells_the_picks_is_kept_and_a_wrong_one_is_left() -> None:
    vary = population()
    taste = np.array([0, 0, 4.0, -2.0, -2.0, 1.5, -1.5])
    wrong = -taste.astype(np.float32)
    picks = choices(5, 30, taste)
    after_right, after_wrong = vary.favours(taste.astype(np.float32), picks), vary.favours(wrong, picks)
    alone = fit(vary.by_profile(wrong), picks, recency(30)).mean
    assert after_right == pytest.approx(taste, abs=1.2)
    assert np.argmax(after_wrong[2:5]) == 0  # black, as the picks say, though the profile says it least
    assert np.abs(after_wrong - taste).sum() < np.abs(alone - taste).sum()


def test_a_profile_that_says_nothing_is_the_population() -> None:
    vary, picks = population(), choices(6, 5)
    expected = fit(vary.by_population, picks, recency(5)).mean.astype(np.float32)
    for said in (np.zeros(V, np.float32), np.ones(V, np.float32)):
        assert vary.favours(said, picks, unknown=1.0).tobytes() == expected.tobytes()


def test_favours_stay_centred_within_each_kind() -> None:
    vary = Population(np.zeros(V), covariance(0), covariance(3))
    found = vary.favours(np.zeros(V, np.float32), choices(7, 12))
    for start, size in ((0, 2), (2, 3), (5, 2)):
        assert found[start : start + size].sum() == pytest.approx(0, abs=1e-5)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("shown", "picked"),
    [
        ([["bow"], ["no trim"]], [False, False]),
        ([["bow"], ["no trim"]], [True, True]),
        ([["bow"], ["BOW "]], [True, False]),
        ([["bow"], ["bow", "of another vocabulary"]], [True, False]),
        ([], []),
    ],
)
def test_a_pick_that_tells_nothing_is_no_choice(shown: list[list[str]], picked: list[bool]) -> None:
    assert choice_of(VOCABULARY, shown, picked) is None


def test_a_choice_has_places_of_what_differs() -> None:
    found = choice_of(VOCABULARY, [["Bow", "red"], ["no trim", "red"]], [True, False])
    assert found == Choice(((6,), (5,)), (True, False))


def test_the_file_is_read_as_it_was_written(tmp_path) -> None:
    vary = population()
    (tmp_path / "history.json").write_text(vary.to_text())
    found = Population.read(tmp_path / "history.json", V)
    assert found is not None and found.to_text() == vary.to_text()
    assert found.covariance == pytest.approx(vary.covariance, rel=1e-4, abs=1e-5)
    assert Population.read(tmp_path / "another.json", V) is None


@pytest.mark.parametrize(
    "change",
    [
        {"mean": [[0.0] * (V - 1)]},
        {"mean": [[float("nan")] * V]},
        {"covariance": (-np.eye(V)).tolist()},
        {"residual": np.triu(np.ones((V, V))).tolist()},
        {"residual": None},
        {"mean": "black"},
    ],
)
def test_a_file_that_holds_no_covariances_is_refused_by_its_name(tmp_path, change: dict) -> None:
    (tmp_path / "history.json").write_text(json.dumps(population().to_json() | change))
    with pytest.raises(ManifestError, match=r"history\.json"):
        Population.read(tmp_path / "history.json", V)


def test_a_file_of_another_vocabulary_is_refused(tmp_path) -> None:
    (tmp_path / "history.json").write_text(population().to_text())
    with pytest.raises(ManifestError, match="7 phrases, the vocabulary has 8"):
        Population.read(tmp_path / "history.json", V + 1)
