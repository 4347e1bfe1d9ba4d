"""Exposure adjusted for where and when it was: how many events were to be expected of it, were all stores and arms
alike.

An item high on the page gets more clicks, and so does a new one. The rates of cells (surface, position, age) are fitted
beside a rate for every store and arm, by Poisson's likelihood: iterative proportional fitting of

    E[x] = n · λ(store, arm) · γ(cell)

so that neither the stores that are shown high nor the arm that is new lend a cell their own rate. Knows counts only.
"""

import numpy as np

_STEPS = 200
_SETTLED = 1e-6  # largest relative change of a cell's rate


def cell_rates(arm: np.ndarray, cell: np.ndarray, events: np.ndarray, exposure: np.ndarray) -> np.ndarray:
    """γ of every cell, float (C,), with a mean of 1 over exposure.

    Args:
        arm, cell: int (N,), of every row: its store and arm, its cell.
        events, exposure: float (N,)
    """
    n_arms, n_cells = int(arm.max()) + 1, int(cell.max()) + 1
    of_arm, of_cell = np.bincount(arm, events, n_arms), np.bincount(cell, events, n_cells)
    shown = np.bincount(cell, exposure, n_cells)
    gamma = np.ones(n_cells)
    for _ in range(_STEPS):
        level = of_arm / np.maximum(np.bincount(arm, exposure * gamma[cell], n_arms), 1e-12)
        # Half an event more keeps a cell without events above 0; it is nothing beside those with many.
        new = (of_cell + 0.5) / (np.bincount(cell, exposure * level[arm], n_cells) + 0.5)
        new *= shown.sum() / (shown * new).sum()
        settled = np.abs(new / gamma - 1).max() < _SETTLED
        gamma = new
        if settled:
            break
    return gamma
