"""Scores and ranks from embeddings (the paper's Eq. 6).

Knows the arithmetic. Does not know where embeddings come from.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Score:
    """One image's place in its group."""

    score: float  # exp(logit_scale) · cosine
    rank: int  # 1 is best


def scores(text: NDArray[np.float32], images: NDArray[np.float32], logit_scale: float) -> NDArray[np.float64]:
    """exp(logit_scale)·cos(E_img, E_txt) of each image.

    text is  # (e,)  and images  # (N, e); both unit length by the tensor contract, so the product is the cosine.
    """
    return logit_scale * (images.astype(np.float64) @ text.astype(np.float64))  # (N,)


def ranked(values: NDArray[np.float64]) -> list[Score]:
    """Scores with ranks, in the order given; of equal scores the earlier image ranks better."""
    order = np.argsort(-values, kind="stable")  # (N,) best first
    ranks = np.empty(len(values), dtype=np.int64)
    ranks[order] = np.arange(1, len(values) + 1)
    return [Score(float(value), int(rank)) for value, rank in zip(values, ranks, strict=True)]
