"""Three estimators of the lift: the paper's, the pooled one, and the primary one, each of them over stores.

With x events at n exposures in a store's arm, and r = x / n:

    paper     mean over stores of r_t / r_c, minus 1: what the paper's §6.2 describes. E[1 / x] > 1 / E[x], so it finds
              a lift where there is none, the more the fewer clicks a store has (docs/measuring.md). Stores whose
              control arm has no event have no ratio, and are left out.
    pooled    (Σ x_t / Σ n_t) / (Σ x_c / Σ n_c) − 1. Large stores decide, and where an arm's share of exposure goes with
              a store's rate, it compares stores with each other rather than arms.
    primary   a random-effects mean of log ratios, back as a ratio, minus 1: the lift of the typical store. Stores that
              say little are shrunk towards the mean.

The primary estimator, in full. A store's log ratio is

    y = log((x_t + ½) / n_t) − log((x_c + ½) / n_c) + ½ ω (1/k_t − 1/k_c)

where the half makes log x nearly unbiased, and the last term corrects for few items: with rates that vary between items
by ω (item_variance), the log of the mean of k rates lies ω / 2k below that of the mean rate, and arms seldom have
equally many items. Its variance within the store is that of counts with the arms' common rate, plus what items add,

    v = 1/e_t + 1/e_c + ω (1/k_t + 1/k_c),     e = n · (x_t + x_c + 1) / (n_t + n_c)

so that the weight of a store does not depend on which arm got its events: weights from each arm's own count would
favour the arm that was lucky. The variance τ² between stores is DerSimonian and Laird's (1986), a store's weight is
1 / (v + τ²), and its own shrunken log ratio is the mean plus τ² / (v + τ²) of its distance from it.

Knows counts; no stores by name and no metrics.
"""

from dataclasses import dataclass

import numpy as np

from training.measurement.lift.counts import CONTROL, TREATMENT, StoreCounts

Lifts = np.ndarray  # float (D,), one of each draw


def paper(stores: StoreCounts, drawn: np.ndarray) -> Lifts:
    """The unweighted mean of store ratios, minus 1; NaN without any store that has a ratio.

    Args:
        drawn: how often each store is in a draw, float (D, S); ones for the data themselves.
    """
    has = stores.events[:, CONTROL] > 0
    rate = stores.events[has] / stores.exposure[has]
    n = drawn[:, has].sum(1)
    summed = drawn[:, has] @ (rate[:, TREATMENT] / rate[:, CONTROL])
    mean: Lifts = np.divide(summed, n, out=np.full(len(n), np.nan), where=n > 0)
    return mean - 1


def pooled(stores: StoreCounts, drawn: np.ndarray) -> Lifts:
    """The ratio of sums, minus 1; NaN without any event of the control arm."""
    events, exposure = drawn @ stores.events, drawn @ stores.exposure
    rate = events / exposure
    ratio: Lifts = np.full(len(rate), np.nan)
    np.divide(rate[:, TREATMENT], rate[:, CONTROL], out=ratio, where=rate[:, CONTROL] > 0)
    return ratio - 1


@dataclass(frozen=True, eq=False)
class LogRatios:
    """y and v of every store, float (S,)."""

    y: np.ndarray
    v: np.ndarray

    @classmethod
    def of(cls, stores: StoreCounts, omega: float) -> "LogRatios":
        """As the module says, with ω = `omega`."""
        log_rate = np.log((stores.events + 0.5) / stores.exposure) + omega / (2 * stores.items)
        common = (stores.events.sum(1) + 1) / stores.exposure.sum(1)
        v = (1 / (common[:, None] * stores.exposure) + omega / stores.items).sum(1)
        return cls(log_rate[:, TREATMENT] - log_rate[:, CONTROL], v)

    def between(self, drawn: np.ndarray) -> np.ndarray:
        """τ², the variance between stores, of every draw (D,); 0 at least."""
        w = 1 / self.v
        total, squares = drawn @ w, drawn @ w**2
        mean = (drawn @ (w * self.y)) / total
        q = drawn @ (w * self.y**2) - mean**2 * total
        scale = total - squares / total
        excess = q - (drawn.sum(1) - 1)
        return np.asarray(np.maximum(0, np.divide(excess, scale, out=np.zeros_like(scale), where=scale > 1e-9 * total)))

    def mean(self, drawn: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The mean log ratio of every draw, and its standard error by the spread of the stores, (D,) each."""
        weight = drawn / (self.v + self.between(drawn)[:, None])  # (D, S)
        total = weight.sum(1)
        mean = (weight @ self.y) / total
        squared = drawn * (weight / np.maximum(drawn, 1)) ** 2 * (self.y - mean[:, None]) ** 2
        n = drawn.sum(1)
        return mean, np.sqrt(squared.sum(1) * n / np.maximum(n - 1, 1)) / total

    def shrunken(self) -> np.ndarray:
        """Every store's own log ratio, shrunk towards the mean, (S,)."""
        once = np.ones((1, len(self.y)))
        mean, between = float(self.mean(once)[0][0]), float(self.between(once)[0])
        return np.asarray(mean + between / (between + self.v) * (self.y - mean))


def primary(stores: StoreCounts, drawn: np.ndarray, omega: float) -> Lifts:
    """The random-effects mean of log ratios, as a lift."""
    return np.asarray(np.expm1(LogRatios.of(stores, omega).mean(drawn)[0]))
