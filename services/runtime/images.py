"""From a client's PNG or JPEG bytes to the square RGB picture that the models read.

Knows the limits on what it will decode and how a picture of another size is fitted.
Does not know requests, users, or the models (which normalise inside their own graphs).

The size is read from the file's header before any pixel is decoded, so a small file that would unfold into
gigabytes is refused at the price of its header.
"""

import io
import struct
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

_FORMATS = ("PNG", "JPEG")
_BACKGROUND = (255, 255, 255)  # what a transparent picture is shown on in a shop: white
# Pillow's decoders raise these, and no common base, for a file that is broken in one way or another.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, struct.error, zlib.error)
# Pillow's own ceiling, met before ours when the header claims absurd sides.
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)


@dataclass(frozen=True)
class ImageLimits:
    """What a client may ask this process to decode."""

    max_bytes: int  # of the encoded file
    max_pixels: int  # width × height, before fitting


class ImageRefused(ValueError):
    """A picture that will not be decoded; the message says why, in words for the client."""


def decode_image(data: bytes, size_px: int, limits: ImageLimits) -> NDArray[np.uint8]:
    """The picture fitted to size_px × size_px  # (H, W, 3); ImageRefused if it cannot be."""
    if not data:
        raise ImageRefused("is empty")
    if len(data) > limits.max_bytes:
        raise ImageRefused(f"has {len(data)} bytes; at most {limits.max_bytes}")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            _check_size(image, limits)
            image.load()
            pixels = np.asarray(_fit(_flatten(ImageOps.exif_transpose(image)), size_px), np.uint8)
    except ImageRefused:
        raise
    except _BOMB as error:
        raise ImageRefused(f"has too many pixels; at most {limits.max_pixels}") from error
    except _BROKEN as error:
        raise ImageRefused("is not a readable PNG or JPEG") from error
    return pixels


def _check_size(image: Image.Image, limits: ImageLimits) -> None:
    width, height = image.size
    if width * height > limits.max_pixels:
        raise ImageRefused(f"has {width}×{height} pixels; at most {limits.max_pixels} in all")


def _flatten(image: Image.Image) -> Image.Image:
    """RGB, with transparency laid on the background."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    with_alpha = image.convert("RGBA")
    canvas = Image.new("RGBA", image.size, (*_BACKGROUND, 255))
    return Image.alpha_composite(canvas, with_alpha).convert("RGB")


def _fit(image: Image.Image, size_px: int) -> Image.Image:
    """The middle square at size_px, as CLIP's own preprocessing crops; untouched if it already fits."""
    if image.size == (size_px, size_px):
        return image
    return ImageOps.fit(image, (size_px, size_px), Image.Resampling.BICUBIC)
