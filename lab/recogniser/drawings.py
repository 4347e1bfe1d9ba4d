"""A pool of drawings on disk, made once, that every pre-training stage samples from."""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lab.market.attributes import KINDS, complete, to_indices
from lab.market.drawing import SIZE_PX, draw

_CHUNK = 500


@dataclass(frozen=True)
class Drawings:
    """Pictures of uniformly drawn garments, with what they show.

    images:  uint8 (N, 64, 64, 3)
    indices: int64 (N, len(KINDS)), value per kind, ABSENT where the garment has none
    """

    images: np.ndarray
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


def drawings(directory: Path, count: int, seed: int) -> Drawings:
    """The pool of `count` drawings of this seed, drawn now unless it lies in `directory`.

    `count` must be a multiple of 500. Different seeds give disjoint streams of garments.
    """
    stem = directory / f"drawings-{seed}-{count}"
    images_path, indices_path = stem.with_suffix(".images.npy"), stem.with_suffix(".indices.npy")
    if not indices_path.exists():
        directory.mkdir(parents=True, exist_ok=True)
        _draw_all(images_path, indices_path, count, seed)
    return Drawings(np.load(images_path, mmap_mode="r"), np.load(indices_path))


def _draw_all(images_path: Path, indices_path: Path, count: int, seed: int) -> None:
    images = np.lib.format.open_memmap(images_path, mode="w+", dtype=np.uint8, shape=(count, SIZE_PX, SIZE_PX, 3))
    indices = np.empty((count, len(KINDS)), np.int64)
    with ProcessPoolExecutor() as pool:
        chunks: Iterator[tuple[np.ndarray, np.ndarray]] = pool.map(
            _draw_chunk, ((seed, chunk) for chunk in range(count // _CHUNK))
        )
        bar = tqdm(chunks, total=count // _CHUNK, desc=f"drawing {count} garments")
        for chunk, (drawn, shown) in enumerate(bar):
            images[chunk * _CHUNK : (chunk + 1) * _CHUNK] = drawn
            indices[chunk * _CHUNK : (chunk + 1) * _CHUNK] = shown
    images.flush()
    np.save(indices_path, indices)  # last: its presence says that the pool is whole


def _draw_chunk(seed_and_chunk: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed_and_chunk)
    garments = [complete({}, rng) for _ in range(_CHUNK)]
    images = np.stack([draw(garment, rng) for garment in garments])
    return images, np.stack([to_indices(garment) for garment in garments])
