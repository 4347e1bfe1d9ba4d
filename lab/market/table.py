"""The simulated market as a table of groups: rounds played by many merchants, their candidates drawn.

    python -m lab.market.table --out build/industrial                        120,000 groups of 5
    python -m lab.market.table --out build/pickapic_like --pickapic-like     groups of 2, user ids only
    python -m lab.market.table --out build/unseen --first-merchant 2000      merchants that no training used

Beside the table lies truth.parquet, the answer sheet: for each group its category and, for each
candidate, the true utility, the best estimate from the features alone, and the best estimate
without the merchant. Evaluations read it for their ceilings; no training may.
"""

import io
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tqdm import tqdm

from contract.feature_schema import Feature, FeatureSchema
from lab.market.drawing import draw
from lab.market.merchants import FEATURE_SCHEMA, Merchant, merchant
from lab.market.rounds import Round, play
from lab.market.taste import utility_by_features, utility_without_user
from training.common.commands import attempt, parser_of
from training.data.table import Candidate, Group, TableError, write_table

TRUTH = "truth.parquet"
_CHUNK = 100


@dataclass(frozen=True)
class MarketRecipe:
    """Which rounds are played."""

    groups: int = 120_000  # a multiple of 100
    candidates: int = 5
    first_merchant: int = 0
    merchants: int = 2_000
    seed: int = 0
    ids_only: bool = False  # like PickaPic: the profile is only the user's id


def industrial() -> MarketRecipe:
    """Like the paper's industrial set: groups of five, profiles, mostly one selected."""
    return MarketRecipe()


def pickapic_like() -> MarketRecipe:
    """Like PickaPic: groups of two, fewer users with many groups each, known by their ids alone."""
    return MarketRecipe(groups=40_000, candidates=2, merchants=400, seed=1, ids_only=True)


def write_market(directory: Path, recipe: MarketRecipe) -> None:
    """Plays the rounds in parallel and writes table and truth; a complete table is left as it is.

    Raises:
        TableError: the directory holds an incomplete table.
    """
    if (directory / "feature_schema.json").exists():
        return
    if recipe.groups % _CHUNK:
        raise TableError(f"groups must be a multiple of {_CHUNK}, got {recipe.groups}")
    chunks = range(recipe.groups // _CHUNK)
    with ProcessPoolExecutor() as pool:
        played = tqdm(pool.map(partial(_play_chunk, recipe), chunks), f"playing {directory.name}", len(chunks))
        write_with_truth(directory, chain.from_iterable(played), schema_of(recipe))


def write_with_truth(directory: Path, played: Iterable[tuple[Group, dict[str, object]]], schema: FeatureSchema) -> None:
    """Writes groups as a table, and beside it the answer sheet of the rows that come with them."""
    truth: list[dict[str, object]] = []

    def groups() -> Iterator[Group]:
        for group, answer in played:
            truth.append(answer)
            yield group

    directory.mkdir(parents=True, exist_ok=True)
    write_table(directory, groups(), schema)
    pq.write_table(pa.Table.from_pylist(truth), directory / TRUTH)


def schema_of(recipe: MarketRecipe) -> FeatureSchema:
    """The feature schema of this set's profiles."""
    if not recipe.ids_only:
        return FEATURE_SCHEMA
    numbers = range(recipe.first_merchant, recipe.first_merchant + recipe.merchants)
    return FeatureSchema((Feature("user_id", "categorical", tuple(merchant(n).user_id for n in numbers)),))


def _play_chunk(recipe: MarketRecipe, chunk: int) -> list[tuple[Group, dict[str, object]]]:
    rng = np.random.default_rng((recipe.seed, 3, chunk))
    numbers = recipe.first_merchant + rng.integers(recipe.merchants, size=_CHUNK)
    rounds = [play(merchant(int(number)), recipe.candidates, rng) for number in numbers]
    names = [f"market-{recipe.seed}-{recipe.first_merchant}-{chunk * _CHUNK + at}" for at in range(_CHUNK)]
    return [(_group(name, r, recipe, rng), _truth(name, r)) for name, r in zip(names, rounds, strict=True)]


def _group(name: str, played: Round, recipe: MarketRecipe, rng: np.random.Generator) -> Group:
    who: Merchant = played.merchant
    candidates = tuple(
        Candidate(f"{name}-{place}", bool(picked), _png(draw(garment, rng)))
        for place, (garment, picked) in enumerate(zip(played.garments, played.selected, strict=True))
    )
    profile = {"user_id": who.user_id} if recipe.ids_only else dict(who.features)
    return Group(name, who.user_id, played.prompt, candidates, profile, origin="market")


def _truth(name: str, played: Round) -> dict[str, object]:
    features, asked = played.merchant.features, played.asked
    return {
        "group_id": name,
        "category": asked["category"],
        "utility": played.utilities.tolist(),
        "utility_by_features": [utility_by_features(features, g, asked) for g in played.garments],
        "utility_without_user": [utility_without_user(g, asked) for g in played.garments],
    }


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--out", type=Path, required=True, help="directory of the new table")
    parser.add_argument("--pickapic-like", action="store_true", help="groups of two, user ids only")
    for name in ("groups", "candidates", "first-merchant", "merchants", "seed"):
        parser.add_argument(f"--{name}", type=int, help="instead of the set's own")
    given = vars(parser.parse_args())
    out, recipe = given.pop("out"), pickapic_like() if given.pop("pickapic_like") else industrial()
    changed = MarketRecipe(**(vars(recipe) | {name: value for name, value in given.items() if value is not None}))

    def work() -> None:
        write_market(out, changed)
        print(f"written: {out}")

    return attempt(work, "nothing written")


if __name__ == "__main__":
    sys.exit(main())
