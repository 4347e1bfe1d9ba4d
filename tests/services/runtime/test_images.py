"""Pictures are decoded within limits, fitted to the model's size, and broken ones are refused in words."""

import io
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image

from services.runtime.images import ImageLimits, ImageRefused, decode_image

LIMITS = ImageLimits(max_bytes=200_000, max_pixels=1_000_000)


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


def test_a_png_of_the_right_size_comes_back_pixel_for_pixel() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    np.testing.assert_array_equal(decode_image(encoded(Image.fromarray(pixels)), 64, LIMITS), pixels)


def test_a_jpeg_is_read() -> None:
    decoded = decode_image(encoded(Image.new("RGB", (64, 64), (200, 30, 30)), "JPEG"), 64, LIMITS)
    assert decoded.shape == (64, 64, 3)
    assert np.abs(decoded.astype(int) - (200, 30, 30)).max() < 5


def test_a_wide_picture_is_cropped_to_its_middle_square() -> None:
    wide = Image.new("RGB", (300, 100), "blue")
    wide.paste("red", (100, 0, 200, 100))
    decoded = decode_image(encoded(wide), 64, LIMITS)
    assert decoded.shape == (64, 64, 3)
    assert (decoded[:, 2:-2] == (255, 0, 0)).all()  # the outermost columns blend with what was cut off


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "I;16", "LA"])
def test_other_colour_modes_become_rgb(mode: str) -> None:
    kind = "JPEG" if mode == "CMYK" else "PNG"
    assert decode_image(encoded(Image.new(mode, (64, 64)), kind), 64, LIMITS).shape == (64, 64, 3)


def test_transparency_is_laid_on_white() -> None:
    assert (decode_image(encoded(Image.new("RGBA", (64, 64), (0, 0, 0, 0))), 64, LIMITS) == 255).all()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"not a picture", "not a readable"),
        (encoded(Image.new("RGB", (64, 64))) + b"", None),
        (encoded(Image.new("RGB", (64, 64)))[:60], "not a readable"),
        (encoded(Image.new("RGB", (64, 64)), "GIF"), "not a readable"),
        (encoded(Image.new("RGB", (1001, 1000))), "1001×1000 pixels"),
        (encoded(Image.new("1", (15_000, 15_000))), "too many pixels"),
        (b"\x89PNG" + bytes(200_000), "bytes; at most 200000"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(data: bytes, says: str | None) -> None:
    if says is None:  # the control: this one is fine
        decode_image(data, 64, LIMITS)
        return
    with pytest.raises(ImageRefused, match=says):
        decode_image(data, 64, LIMITS)


def test_no_truncation_of_a_real_file_escapes_as_another_error() -> None:
    for kind in ("PNG", "JPEG"):
        whole = encoded(Image.fromarray(np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)), kind)
        for end in range(1, len(whole) - 16, 97):
            with pytest.raises(ImageRefused):
                decode_image(whole[:end], 64, LIMITS)


def test_no_flipped_bytes_of_a_real_file_escape_as_another_error() -> None:
    rng = np.random.default_rng(2)
    for kind in ("PNG", "JPEG"):
        whole = np.frombuffer(encoded(Image.new("RGB", (32, 32), "red"), kind), np.uint8)
        for _ in range(200):
            broken = whole.copy()
            broken[rng.integers(8, len(whole), 3)] = rng.integers(0, 256, 3)
            with suppress(ImageRefused):
                assert decode_image(broken.tobytes(), 64, LIMITS).shape == (64, 64, 3)
