"""Whether chance decided which items were treated: the sample-ratio check. Knows counts of items; no events.

A share of treated items other than the planned one says that some were lost or moved, and then the arms differ in more
than the treatment. Nothing of an analysis stands where this check fails.
"""

from typing import Any

import numpy as np

ALARM = 0.001  # p below which the ratio is called wrong


def sample_ratio(store: np.ndarray, treated: np.ndarray, share: float) -> dict[str, Any]:
    """The check over all items, and store by store, by an exact binomial and a χ² test.

    Args:
        store: int (I,), of every item that was assigned.
        treated: bool (I,)
        share: of treated items, as planned.
    """
    from scipy import stats  # a second to load

    n, k = len(treated), int(treated.sum())
    _, row = np.unique(store, return_inverse=True)
    items, hits = np.bincount(row), np.bincount(row, treated)
    spread = ((hits - share * items) ** 2 / (items * share * (1 - share))).sum()
    overall, by_store = float(stats.binomtest(k, n, share).pvalue), float(stats.chi2.sf(spread, len(items)))
    return {
        "planned": share, "items": n, "treated": k, "found": k / n, "p": overall, "p_by_store": by_store,
        "wrong": min(overall, by_store) < ALARM,
    }  # fmt: skip
