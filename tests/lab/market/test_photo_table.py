"""Groups over photographs: what is measured is what is seen, and picks follow the invented tastes."""

import io
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lab.market import photo_table
from lab.market.table import TRUTH
from training.common.metrics import rank_metrics
from training.data.prepare import prepare
from training.data.table import TableError, read_table
from training.models.family import FamilyPaths


def jpeg(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def plain(colour: tuple[int, int, int]) -> bytes:
    return jpeg(np.tile(np.array(colour), (64, 64, 1)))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Forty pictures of five colours and two categories, every fourth for the test."""
    rng = np.random.default_rng(0)
    colours = [(200, 30, 30), (40, 60, 200), (30, 160, 60), (235, 235, 235), (30, 30, 30)]
    rows = [
        {
            "image": jpeg(np.clip(np.array(colours[i % 5]) + rng.normal(0, 25 * (i % 2), (64, 64, 3)), 0, 255)),
            "category": ("hat", "dress")[i // 20],
            "split": "test" if i % 4 == 0 else "train",
        }
        for i in range(40)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "photos.parquet")
    return tmp_path / "photos.parquet"


@pytest.mark.parametrize(
    ("content", "shows"),
    [
        (plain((220, 20, 20)), {"colour": "red", "brightness": "dark", "texture": "smooth"}),
        (plain((60, 90, 250)), {"colour": "blue", "brightness": "medium", "texture": "smooth"}),
        (plain((250, 250, 250)), {"colour": "grey", "brightness": "bright", "texture": "smooth"}),
        (jpeg(np.random.default_rng(1).integers(0, 256, (64, 64, 1)).repeat(3, 2)), {"texture": "busy"}),
    ],
)
def test_a_photograph_is_measured_as_it_looks(content: bytes, shows: dict[str, str]) -> None:
    names = {"colour": photo_table.COLOURS, "brightness": photo_table.BRIGHTNESS, "texture": photo_table.TEXTURE}
    found = photo_table.measure(content, 3)
    assert found["category"] == 3
    assert shows.items() <= {kind: values[found[kind]] for kind, values in names.items()}.items()


def write(monkeypatch: pytest.MonkeyPatch, *options: object) -> int:
    monkeypatch.setattr(sys, "argv", ["photo_table", *map(str, options)])
    return photo_table.main()


def test_picks_follow_a_taste_that_the_truth_knows(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: FamilyPaths
) -> None:
    out = tmp_path / "my täble"
    assert write(monkeypatch, "--photos", photos, "--out", out, "--groups", 400) == 0
    groups = list(read_table(out))
    assert len(groups) == 400 and all(sum(c.selected for c in group.candidates) == 1 for group in groups)
    truth = pq.read_table(out / TRUTH).to_pydict()
    selected = np.array([[c.selected for c in group.candidates] for group in groups])
    nobody, features, full = (
        rank_metrics(np.array(truth[name]), selected).gauc
        for name in ("utility_without_user", "utility_by_features", "utility")
    )
    assert 0.5 < nobody < features < full
    prepared = prepare(out, tmp_path / "prepared", family.reward_tokenizer(), 32)  # finds the pictures by their URIs
    assert prepared.images is not None and prepared.images.shape == (400, 5, 32, 32, 3)


def test_the_same_merchant_keeps_their_features_and_taste(photos: Path) -> None:
    pictures = photo_table.read_photos(photos, "train")
    uris = [""] * len(pictures)
    one = [group.features for group, _ in photo_table.play(pictures, uris, 20, 7, 1, seed=0)]
    two = [group.features for group, _ in photo_table.play(pictures, uris, 20, 7, 1, seed=1)]
    assert all(features == one[0] for features in (*one, *two))


def test_what_has_no_photographs_is_refused(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    with pytest.raises(TableError, match="0 photographs of the split 'nowhere'"):
        photo_table.read_photos(photos, "nowhere")
    pq.write_table(pa.table({"image": [b""]}), tmp_path / "odd.parquet")
    assert write(monkeypatch, "--photos", tmp_path / "odd.parquet", "--out", tmp_path / "table") == 1
    assert "odd.parquet has no photographs" in capsys.readouterr().err
