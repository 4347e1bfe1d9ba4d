"""Groups from the simulated market: rounds played by many merchants, their candidates drawn.

Played once in parallel and kept on disk. Merchants below `first_unseen` train; the others are
held out, so that cold start can be measured.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from training.market.drawing import SIZE_PX, draw
from training.market.merchants import Profile, merchant
from training.market.rounds import Round, play

_CHUNK = 100


@dataclass(frozen=True)
class MarketRecipe:
    """Which rounds are played."""

    groups: int  # a multiple of 100
    candidates: int = 5
    first_merchant: int = 0
    merchants: int = 2_000
    seed: int = 0


@dataclass(frozen=True)
class MarketGroups:
    """Played rounds.

    images:    uint8 (G, K, 64, 64, 3)
    selected:  bool (G, K)
    utilities: float64 (G, K), the truth, for evaluation only
    prompts, profiles, user_ids: one for each group
    """

    images: np.ndarray
    selected: np.ndarray
    utilities: np.ndarray
    prompts: list[str]
    profiles: list[Profile]
    user_ids: list[str]

    def __len__(self) -> int:
        return len(self.prompts)


def market_groups(directory: Path, recipe: MarketRecipe) -> MarketGroups:
    """The groups of this recipe, played now unless they lie in `directory`."""
    name = f"groups-{recipe.seed}-{recipe.groups}x{recipe.candidates}-{recipe.first_merchant}"
    stem = directory / f"{name}+{recipe.merchants}"
    if not stem.with_suffix(".json").exists():
        directory.mkdir(parents=True, exist_ok=True)
        _play_all(stem, recipe)
    rows = json.loads(stem.with_suffix(".json").read_text())
    return MarketGroups(
        images=np.load(stem.with_suffix(".images.npy"), mmap_mode="r"),
        selected=np.array(rows["selected"], dtype=bool),
        utilities=np.array(rows["utilities"]),
        prompts=rows["prompts"],
        profiles=rows["profiles"],
        user_ids=rows["user_ids"],
    )


def _play_all(stem: Path, recipe: MarketRecipe) -> None:
    shape = (recipe.groups, recipe.candidates, SIZE_PX, SIZE_PX, 3)
    images = np.lib.format.open_memmap(stem.with_suffix(".images.npy"), mode="w+", dtype=np.uint8, shape=shape)
    rounds: list[Round] = []
    with ProcessPoolExecutor() as pool:
        chunks: Iterator[tuple[list[Round], np.ndarray]] = pool.map(
            partial(_play_chunk, recipe), range(recipe.groups // _CHUNK)
        )
        bar = tqdm(chunks, total=recipe.groups // _CHUNK, desc=f"playing {recipe.groups} rounds")
        for chunk, (played, drawn) in enumerate(bar):
            images[chunk * _CHUNK : (chunk + 1) * _CHUNK] = drawn
            rounds += played
    images.flush()
    rows = {
        "selected": [r.selected.tolist() for r in rounds],
        "utilities": [r.utilities.tolist() for r in rounds],
        "prompts": [r.prompt for r in rounds],
        "profiles": [r.merchant.features for r in rounds],
        "user_ids": [r.merchant.user_id for r in rounds],
    }
    stem.with_suffix(".json").write_text(json.dumps(rows))  # last: it says that all is there


def _play_chunk(recipe: MarketRecipe, chunk: int) -> tuple[list[Round], np.ndarray]:
    rng = np.random.default_rng((recipe.seed, 3, chunk))
    numbers = recipe.first_merchant + rng.integers(recipe.merchants, size=_CHUNK)
    rounds = [play(merchant(int(number)), recipe.candidates, rng) for number in numbers]
    images = np.stack([np.stack([draw(g, rng) for g in r.garments]) for r in rounds])
    return rounds, images
