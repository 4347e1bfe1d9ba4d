"""Groups over photographs from outside this project, for merchants with invented tastes: a test on real pictures.

    python -m lab.market.photo_table --photos clothing.parquet --split train --out build/photos
    python -m lab.market.photo_table --photos clothing.parquet --split test --first-merchant 1000 --groups 1500 \
        --out build/photos_test

`--photos` is any Parquet file with the columns image (JPEG or PNG bytes), category and split. Each photograph is
measured: its colour, brightness and texture; a merchant's features decide in pairs which of those values and which
categories they favour. The pictures are written beside the table and named by URI; truth.parquet is the answer
sheet, as for the simulated market. Knows pixels and invented tastes; nothing about the market's drawings.
"""

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from tqdm import tqdm

from contract.feature_schema import Feature, FeatureSchema
from lab.market.table import write_with_truth
from training.common.commands import attempt, parser_of
from training.data.table import Candidate, Group, TableError

COLOURS = ("red", "yellow", "green", "blue", "purple", "grey")
BRIGHTNESS = ("dark", "medium", "bright")
TEXTURE = ("smooth", "structured", "busy")
STYLES = ("classic", "street", "outdoor", "party")
CLIMATES = ("cold", "mild", "hot")
AGES = ("teens", "adults", "seniors")
SCHEMA = FeatureSchema(
    (
        Feature("style", "categorical", STYLES),
        Feature("climate", "categorical", CLIMATES),
        Feature("age", "categorical", AGES),
    )
)
# Which two features decide together about a measured kind, and how much it matters (std of weights).
_DECIDES = {"colour": (0, 2, 1.2), "brightness": (0, 1, 1.5), "texture": (1, 2, 1.5), "category": (0, 1, 1.2)}
_MATCH, _INDIVIDUAL_STD, _SEED = 4.0, 0.4, 90_210


@dataclass(frozen=True)
class Photo:
    """A photograph and the index of its value of each measured kind."""

    content: bytes
    category: str
    shows: Mapping[str, int]
    n_categories: int  # of the whole file, whatever the split


def measure(content: bytes, category: int) -> dict[str, int]:
    """The values of a photograph's middle: hue by vote of the saturated pixels, mean lightness, mean edge strength."""
    with Image.open(io.BytesIO(content)) as opened:
        middle = opened.convert("RGB").resize((64, 64)).crop((16, 8, 48, 56))
    hue, saturation, value = np.moveaxis(np.asarray(middle.convert("HSV"), np.float32), -1, 0)
    grey = np.asarray(middle.convert("L"), np.float32)
    edges = np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean()
    coloured = (saturation > 60) & (value > 40)
    votes = np.histogram(((hue[coloured] + 13) % 256), bins=[0, 30, 60, 115, 185, 256])[0]
    colour = int(votes.argmax()) if coloured.mean() > 0.25 else len(COLOURS) - 1
    return {
        "colour": colour,
        "brightness": int(np.digitize(grey.mean(), [90, 150])),
        "texture": int(np.digitize(edges, [12, 24])),
        "category": category,
    }


def read_photos(path: Path, split: str) -> list[Photo]:
    """The photographs of one split.

    Raises:
        TableError: a column is missing, or nothing has this split.
    """
    try:
        table = pq.read_table(path, columns=["image", "category", "split"])
    except (pa.ArrowException, OSError, ValueError) as error:
        raise TableError(f"{path} has no photographs: {error}") from error
    categories = sorted(set(table.column("category").to_pylist()))
    rows = [row for row in table.to_pylist() if row["split"] == split]
    if len(rows) < 10:
        raise TableError(f"{path} has {len(rows)} photographs of the split {split!r}; ten are needed")
    measured = (measure(row["image"], categories.index(row["category"])) for row in tqdm(rows, desc="measuring"))
    return [
        Photo(row["image"], row["category"], shows, len(categories)) for row, shows in zip(rows, measured, strict=True)
    ]


class Taste:
    """Merchants' taste: weights of each kind's values by two features, and an individual part."""

    def __init__(self, categories: int) -> None:
        sizes = {"colour": len(COLOURS), "brightness": len(BRIGHTNESS), "texture": len(TEXTURE), "category": categories}
        rng = np.random.default_rng(_SEED)
        levels = [len(feature.vocabulary) for feature in SCHEMA.features]
        self.tables = {
            kind: rng.normal(0.0, std, (levels[first], levels[second], sizes[kind]))
            for kind, (first, second, std) in _DECIDES.items()
        }

    def utilities(self, codes: Sequence[int], merchant: int, shown: Sequence[Photo], asked: str) -> np.ndarray:
        """float64 (3, K): without the merchant, from the features, and with the individual part."""
        rng = np.random.default_rng((_SEED, merchant))
        found = np.zeros((3, len(shown)))
        for kind, (first, second, _) in _DECIDES.items():
            table = self.tables[kind]
            own = rng.normal(0.0, _INDIVIDUAL_STD, table.shape[2])
            values = [photo.shows[kind] for photo in shown]
            found[0] += table.mean((0, 1))[values]
            found[1:] += table[codes[first], codes[second]][values]
            found[2] += own[values]
        return found + _MATCH * np.array([photo.category == asked for photo in shown])


def play(
    photos: Sequence[Photo], uris: Sequence[str], groups: int, first_merchant: int, merchants: int, seed: int
) -> Iterator[tuple[Group, dict[str, object]]]:
    """Rounds of five: most candidates of the category asked for, one picked by the full utility with Gumbel noise."""
    rng = np.random.default_rng((seed, 5))
    categories = sorted({photo.category for photo in photos})
    taste = Taste(photos[0].n_categories)
    by_category = {name: [i for i, photo in enumerate(photos) if photo.category == name] for name in categories}
    for number in range(groups):
        merchant = first_merchant + int(rng.integers(merchants))
        codes = [int(np.random.default_rng((merchant, place)).integers(len(f.vocabulary)))
                 for place, f in enumerate(SCHEMA.features)]  # fmt: skip
        asked = str(rng.choice(categories))
        chosen = _five(by_category[asked], len(photos), rng)
        shown = [photos[i] for i in chosen]
        utilities = taste.utilities(codes, merchant, shown, asked)
        picked = int(np.argmax(utilities[2] + rng.gumbel(size=5)))
        name = f"photos-{seed}-{first_merchant}-{number}"
        candidates = tuple(Candidate(f"{name}-{k}", k == picked, uri=uris[i]) for k, i in enumerate(chosen))
        features = {f.name: f.vocabulary[code] for f, code in zip(SCHEMA.features, codes, strict=True)}
        truth = dict(zip(("utility_without_user", "utility_by_features", "utility"), utilities.tolist(), strict=True))
        yield (
            Group(name, f"merchant-{merchant}", asked, candidates, features, origin="photographs"),
            {"group_id": name, "category": asked, **truth},
        )


def _five(of_category: Sequence[int], n_photos: int, rng: np.random.Generator) -> list[int]:
    """Different photographs, four in five of the category where it has enough of them."""
    n_asked = min(int(rng.binomial(5, 0.8)), len(of_category))
    chosen = rng.choice(of_category, n_asked, replace=False).tolist()
    others = [i for i in rng.choice(n_photos, min(n_photos, 10), replace=False).tolist() if i not in chosen]
    return [int(i) for i in rng.permutation([*chosen, *others[: 5 - n_asked]])]


def write_photos(photos: Sequence[Photo], directory: Path) -> list[str]:
    """The pictures as files; their URIs."""
    directory.mkdir(parents=True, exist_ok=True)
    uris = []
    for number, photo in enumerate(photos):
        path = directory / f"{number:05d}.jpg"
        path.write_bytes(photo.content)
        uris.append(path.resolve().as_uri())
    return uris


def main() -> int:
    parser = parser_of(__doc__)
    parser.add_argument("--photos", type=Path, required=True, help="Parquet file: image, category, split")
    parser.add_argument("--out", type=Path, required=True, help="directory of the new table")
    parser.add_argument("--split", default="train", help="which photographs (default: %(default)s)")
    parser.add_argument("--groups", type=int, default=12_000)
    parser.add_argument("--merchants", type=int, default=1_000)
    parser.add_argument("--first-merchant", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    def work() -> None:
        photos = read_photos(given.photos, given.split)
        uris = write_photos(photos, given.out / "photos")
        played = play(photos, uris, given.groups, given.first_merchant, given.merchants, given.seed)
        write_with_truth(given.out, tqdm(played, "playing", given.groups), SCHEMA)
        print(f"written: {given.out}")

    return attempt(work, "nothing written")


if __name__ == "__main__":
    sys.exit(main())
