"""How well scores rank the picked candidates: MAP and GAUC, as in the paper's Table 2.

GAUC is the mean over groups of the AUC within the group; a tie counts ½. AP puts a candidate
among ties at its expected rank. Groups of one class carry no information: both drop and count them.
Knows nothing about models.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ranking:
    """MAP and GAUC over `groups` groups; `dropped` had only one class."""

    map: float
    gauc: float
    groups: int
    dropped: int


def rank_metrics(scores: np.ndarray, selected: np.ndarray, present: np.ndarray | None = None) -> Ranking:
    """Compares scores (N, K) with picks, bool (N, K); `present` (N, K) marks the candidates that exist."""
    present = np.ones_like(selected) if present is None else present
    if not np.isfinite(scores[present]).all():
        raise ValueError("scores must be finite")
    usable = selected.any(1) & (present & ~selected).any(1)
    parts = (scores[usable], selected[usable], present[usable])
    ap, auc = average_precision(*parts), group_auc(*parts)
    n = int(usable.sum())
    mean = (float(ap.mean()), float(auc.mean())) if n else (float("nan"), float("nan"))
    return Ranking(*mean, groups=n, dropped=len(scores) - n)


def group_auc(scores: np.ndarray, selected: np.ndarray, present: np.ndarray | None = None) -> np.ndarray:
    """Share of (positive, negative) pairs in the right order, ties ½. (N, K) → (N,)"""
    present = np.ones_like(selected) if present is None else present
    gap = scores[:, :, None] - scores[:, None, :]  # (N, K, K) [i, j] = s_i − s_j
    pairs = selected[:, :, None] & (present & ~selected)[:, None, :]  # (N, K, K) i positive, j negative
    wins = (gap > 0) + 0.5 * (gap == 0)
    return (wins * pairs).sum((1, 2)) / pairs.sum((1, 2))


def average_precision(scores: np.ndarray, selected: np.ndarray, present: np.ndarray | None = None) -> np.ndarray:
    """Mean over positives of (positives up to it) / (rank), both expected under ties. (N, K) → (N,)"""
    above = (scores[:, None, :] > scores[:, :, None]) + 0.5 * (scores[:, None, :] == scores[:, :, None])
    if present is not None:
        above = above * present[:, None, :]
    np.einsum("nkk->nk", above)[:] = 1.0  # itself counts whole
    rank = above.sum(2)  # (N, K)
    hits = (above * selected[:, None, :]).sum(2)  # (N, K)
    return (hits / rank * selected).sum(1) / selected.sum(1)
