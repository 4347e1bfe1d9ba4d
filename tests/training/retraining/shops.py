"""Tables of drawings of which minimalists pick what stands in a studio and the others what stands on a beach."""

import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from PIL import Image

from contract.feature_schema import FeatureSchema
from lab.market.attributes import complete
from lab.market.drawing import draw
from training.data.table import Candidate, Group, write_table

STYLES = {"minimalist": "studio", "luxury": "beach"}  # what each picks
START = datetime(2026, 1, 1, tzinfo=UTC)


def shown(count: int, name: str, seed: int = 0, candidates: int = 3) -> Iterator[Group]:
    """Groups of `count` merchants, a minute after each other, their pictures as bytes."""
    rng = np.random.default_rng((seed, 1))
    for n in range(count):
        garments = [complete({"category": "dress"}, rng) for _ in range(candidates)]
        style = str(rng.choice(list(STYLES)))
        picked = max(range(candidates), key=lambda at: garments[at]["backdrop"] == STYLES[style])
        pictures = tuple(Candidate(f"{name}{n}-{at}", at == picked, _png(g, rng)) for at, g in enumerate(garments))
        time = START + timedelta(minutes=n)
        yield Group(f"{name}{n}", f"u{n}", "dress", pictures, {"style": style}, "market", time)


def table(folder: Path, groups: Sequence[Group] | Iterator[Group], schema: FeatureSchema) -> Path:
    write_table(folder, groups, schema)
    return folder


def _png(garment: dict[str, str], rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(draw(garment, rng)).save(buffer, "PNG")
    return buffer.getvalue()
