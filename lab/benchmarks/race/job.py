"""The job of the race: rounds of five pictures, each from noise that its seed alone decides. The same for everyone.

Read by the runner and, in an environment of their own, by the contestants: numpy, Pillow and the standard library only.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

CANDIDATES, STEPS, GUIDANCE = 5, 6, 4.0
LATENT_SHAPE = (4, 8, 8)  # (C, S, S) of the tiny family
NEGATIVE_PROMPT = ""
PROMPTS = (
    "dress,v-neck,slim-fit,long sleeves",
    "coat,black",
    "skirt,red",
    "shirt,white,long sleeves",
    "dress,sequins",
    "trousers,blue",
    "dress,short sleeves,red",
    "shirt,blue",
)


@dataclass(frozen=True)
class Round:
    """One merchant's wish: candidates of one prompt."""

    prompt: str
    seeds: tuple[int, ...]


def round_of(number: int) -> Round:
    """The number-th round; every contestant gets the same ones."""
    return Round(PROMPTS[number % len(PROMPTS)], tuple(CANDIDATES * number + k for k in range(CANDIDATES)))


def noise_of(seeds: tuple[int, ...]) -> np.ndarray:
    """What each candidate starts from, float32 (B, C, S, S): the generation service's own stream of each seed."""
    streams = (np.random.Generator(np.random.Philox(key=seed)) for seed in seeds)
    return np.stack([stream.standard_normal(LATENT_SHAPE, dtype=np.float32) for stream in streams])


def encode_png(image: np.ndarray) -> bytes:
    """PNG bytes of a picture uint8 (H, W, 3), compressed as the platform does."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def by_round(images: np.ndarray, rounds: Sequence[Round]) -> list[list[bytes]]:
    """The PNGs of each round, of all pictures uint8 (B, H, W, 3)."""
    pngs = iter([encode_png(image) for image in images])
    return [[next(pngs) for _ in one.seeds] for one in rounds]


def decode_png(png: bytes) -> np.ndarray:
    """The picture uint8 (H, W, 3) of PNG bytes."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def keep(folder: str | Path | None, number: int, pngs: Sequence[bytes]) -> None:
    """Writes a round's pictures where the runner compares them, if it does."""
    for k, png in enumerate(pngs if folder else ()):
        Path(str(folder), f"{number}-{k}.png").write_bytes(png)


def kept(folder: Path, numbers: Sequence[int]) -> np.ndarray:
    """The pictures of these rounds, uint8 (N, H, W, 3)."""
    names = [f"{number}-{k}.png" for number in numbers for k in range(CANDIDATES)]
    return np.stack([decode_png((folder / name).read_bytes()) for name in names])
