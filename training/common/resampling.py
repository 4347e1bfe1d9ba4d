"""Means with 95 % intervals: a bootstrap over users and, independently, over seeds.

With few seeds the interval is somewhat too narrow for the variation between trainings; with one seed it covers the
users alone. Knows only numbers.
"""

import numpy as np

DRAWS = 10_000


class Resampler:
    """Each draw takes users with replacement, and seeds with replacement; the same draws for every quantity.

    Args:
        users: the user of each value, int (G,).
    """

    def __init__(self, users: np.ndarray, draws: int = DRAWS) -> None:
        self.users, self.draws = users, draws
        rng = np.random.default_rng(20_260)
        present = np.unique(users)
        self.weights = np.zeros((draws, int(users.max()) + 1), np.float32)  # how often each user is in the draw
        for weight in self.weights:
            np.add.at(weight, rng.choice(present, len(present)), 1.0)
        self.rng_seed = 20_261

    def mean(self, values: np.ndarray) -> tuple[float, np.ndarray]:
        """The mean of values (S, G) per seed, and the mean of each draw (D,)."""
        n_users = self.weights.shape[1]
        sums = np.stack([np.bincount(self.users, row, n_users) for row in values])  # (S, U)
        counts = np.bincount(self.users, minlength=n_users)
        by_seed = (self.weights @ sums.T) / (self.weights @ counts)[:, None]  # (D, S)
        chosen = np.random.default_rng(self.rng_seed).integers(len(values), size=(self.draws, len(values)))
        return float(values.mean()), np.take_along_axis(by_seed, chosen, axis=1).mean(1)


def interval(mean: float, draws: np.ndarray) -> dict[str, float]:
    """The mean with the middle 95 % of the draws."""
    low, high = np.percentile(draws, [2.5, 97.5])
    return {"mean": mean, "low": float(low), "high": float(high)}
