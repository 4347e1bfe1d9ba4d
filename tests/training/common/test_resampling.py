"""Bootstrap intervals: over users and seeds, with the same draws for every quantity."""

import numpy as np
import pytest

from training.common.resampling import Resampler, interval

G, USERS = 300, 40


def test_an_interval_covers_users_and_seeds() -> None:
    users = np.random.default_rng(0).integers(USERS, size=G)
    sample = Resampler(users, draws=2_000)
    rng = np.random.default_rng(1)
    same = np.repeat(rng.normal(0, 1, (1, G)), 5, axis=0)
    by_users = interval(*sample.mean(same))
    bounds = 1.96 * np.std([same[0][users == user].sum() for user in range(USERS)]) * USERS**0.5 / G
    assert by_users["high"] - by_users["low"] == pytest.approx(2 * bounds, rel=0.2)
    assert by_users["mean"] == same.mean()
    apart = same + np.array([-2, -1, 0, 1, 2])[:, None]
    by_both = interval(*sample.mean(apart))
    assert by_both["high"] - by_both["low"] > 2 * (by_users["high"] - by_users["low"])


def test_the_same_draws_serve_every_quantity() -> None:
    """A difference that every user shows is certain, however much users differ."""
    rng = np.random.default_rng(1)
    users = rng.integers(USERS, size=G)
    values = rng.normal(0, 1, USERS)[users][None]
    sample = Resampler(users, draws=500)
    mean, draws = sample.mean(values)
    more, more_draws = sample.mean(values + 0.1)
    assert more - mean == pytest.approx(0.1)
    np.testing.assert_allclose(more_draws - draws, 0.1, atol=1e-5)
    assert np.array_equal(Resampler(users, draws=500).mean(values)[1], draws)
