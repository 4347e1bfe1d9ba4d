"""Groups of a few merchants, as a table has them."""

import io

import numpy as np
from PIL import Image

from training.data.table import Candidate, Group


def png(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def group(n: int, rng: np.random.Generator, picked: int = 0) -> Group:
    candidates = tuple(Candidate(f"{n}-{k}", k == picked, png(rng)) for k in range(3))
    profile = {"style": ("minimalist", "luxury")[n % 2], "years_open": float(n)}
    return Group(f"g{n}", f"merchant {n // 2}", "dress,red", candidates, profile)
