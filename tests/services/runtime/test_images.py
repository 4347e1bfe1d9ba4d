"""Pictures are decoded beside the calls that need none, within bounded memory. What is shown: tests/contract."""

import asyncio
import io
import json
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from services.runtime.images import Decoder, ImageLimits, ImageRefused, decode_image
from tests.contract.picture_makers import GREY, GREY_ALPHA, RGB, RGBA, chunk, encoded, png

LIMITS = ImageLimits(max_bytes=2**20, max_pixels=25_000_000)
ROOT = Path(__file__).parents[3]

SMALL = encoded(Image.new("RGB", (8, 8), "red"))
LARGE = png((1, 2, 3), 8, RGB, size=(4000, 4000))


@pytest.fixture
async def decoder() -> AsyncIterator[Decoder]:
    made = Decoder(LIMITS)
    yield made
    await made.close()


async def test_it_decodes_as_the_function_does(decoder: Decoder) -> None:
    np.testing.assert_array_equal(await decoder.decode(SMALL, 8), decode_image(SMALL, 8, LIMITS))
    np.testing.assert_array_equal(await decoder.decode(LARGE, 8), np.full((8, 8, 3), (1, 2, 3)))


@pytest.mark.parametrize(
    "data", [b"", b"no picture", bytes(2**20 + 1), png((1,), 1, GREY, size=(5001, 5000)), SMALL[:50]]
)
async def test_what_is_refused_is_refused_there_too(decoder: Decoder, data: bytes) -> None:
    with pytest.raises(ImageRefused):
        await decoder.decode(data, 8)


async def test_a_small_picture_waits_for_no_large_one(decoder: Decoder) -> None:
    """However many are there before: eight large ones take seconds."""
    large = [asyncio.create_task(decoder.decode(LARGE, 8)) for _ in range(8)]
    await asyncio.gather(*(decoder.decode(SMALL, 8) for _ in range(8)))
    assert sum(task.done() for task in large) < 8
    await asyncio.gather(*large)


async def test_a_call_that_is_cancelled_while_it_waits_decodes_nothing(decoder: Decoder) -> None:
    tasks = [asyncio.create_task(decoder.decode(LARGE, 8)) for _ in range(8)]
    await tasks[0]
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert any(isinstance(end, asyncio.CancelledError) for end in ended)
    await decoder.decode(LARGE, 8)  # comes soon: its turn is next


# ---- memory -------------------------------------------------------------------------------------

_PEAK = """
import json, resource, sys
from pathlib import Path
from contract.pictures import PictureLimits, opened, square

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

first, *rest = map(Path, sys.argv[1:])
limits = PictureLimits(2**27, 25_000_000)
square(opened(first.read_bytes(), limits), 64)
before = peak_mb()
for path in rest:
    square(opened(path.read_bytes(), limits), 64)
print(json.dumps(peak_mb() - before))
"""


def peak_mb(folder: Path, *pictures: bytes) -> int:
    """By how many MB the memory of a process rises that decodes one picture after the other; Pillow's is seen, too."""
    paths = [folder / f"{n}" for n in range(len(pictures) + 1)]
    for path, data in zip(paths, [SMALL, *pictures], strict=True):
        path.write_bytes(data)
    command = [sys.executable, "-c", _PEAK, *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=250)
    rise: int = json.loads(done.stdout)
    return rise


def photograph(kind: str, **options: object) -> bytes:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (50, 50, 3), np.uint8)).resize((4990, 4990), Image.Resampling.BICUBIC)
    buffer = io.BytesIO()
    coarse.save(buffer, kind, **options)
    return buffer.getvalue()


SIDES = (5000, 5000)


@pytest.mark.parametrize(
    ("picture", "most_mb"),
    [
        (png((0x8000, 0x2000, 0x1000, 0x8000), 16, RGBA, size=SIDES), 170),  # 100 of them the decoded pixels
        (png((0x8000,), 16, GREY, size=SIDES, before=chunk(b"tRNS", b"\x80\0")), 130),
        (png((128, 32), 8, GREY_ALPHA, size=SIDES), 170),
        (photograph("JPEG"), 60),  # decoded smaller
        (photograph("JPEG", progressive=True), 150),  # libjpeg holds all of its coefficients
    ],
    ids=["rgba16", "grey16", "grey-alpha", "jpeg", "progressive"],
)
def test_the_largest_pictures_that_are_taken_need_little_more_than_their_pixels(
    picture: bytes, most_mb: int, tmp_path: Path
) -> None:
    assert peak_mb(tmp_path, picture) < most_mb


def test_metadata_need_no_memory_beyond_the_files(tmp_path: Path) -> None:
    text = chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(2**28), 9))  # 256 MiB
    assert peak_mb(tmp_path, png((1, 2, 3), 8, RGB, before=text * 4), SMALL) < 60
