"""From a picture's bytes to the square RGB picture that models read.

Services and training read pictures by this alone. What a browser shows is what a model gets: colours in sRGB by the
file's own profile, turned as its EXIF says, transparency on white, the first frame. The middle square is cut out, as
CLIP's own preprocessing crops; people who rate pictures get the whole of them.

A large picture is shrunk while it is converted, band by band, so that beside its decoded pixels no second copy of its
full size exists. Knows pictures; neither requests nor models, which normalise inside their own graphs.
"""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from contract.picture_files import UNREADABLE, PictureFile, PictureRefused, picture_file

LARGE_PIXELS = 2**22  # from here on pictures are shrunk on the way; smaller ones are resampled in one go
_BACKGROUND = (255, 255, 255)  # what a transparent picture is shown on in a shop: white
_GAP = 3  # sides that a large picture keeps before the final resampling, in sides of the result
_BAND_PIXELS = 2**20
_SAME_GAMMA = 0.05  # as libpng has it
# Pillow's decoders raise these, and no common base, for a file that is broken in one way or another.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, TypeError, KeyError, struct.error, zlib.error)
# Pillow's own ceiling, met before ours where the limits are set above it.
_BOMB = (Image.DecompressionBombError, Image.DecompressionBombWarning)
_COLOURS = {"1": "L", "L": "L", "LA": "L", "I;16": "L", "CMYK": "CMYK"}  # a picture's mode → its colours'; else RGB
_UPRIGHT = {  # EXIF's orientation → how the picture is turned
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class PictureLimits:
    """What may be decoded."""

    max_bytes: int  # of the encoded file
    max_pixels: int  # width × height


def opened(data: bytes, limits: PictureLimits) -> PictureFile:
    """A PNG or JPEG within the limits, not yet decoded.

    Raises:
        PictureRefused: beyond the limits, or no such file.
    """
    if not data:
        raise PictureRefused("is empty")
    if len(data) > limits.max_bytes:
        raise PictureRefused(f"has {len(data)} bytes; at most {limits.max_bytes}")
    file = picture_file(data)
    if file.pixels > limits.max_pixels:
        raise PictureRefused(f"has {file.width}×{file.height} pixels; at most {limits.max_pixels} in all")
    return file


def square(file: PictureFile, size_px: int) -> NDArray[np.uint8]:
    """The picture's middle square at size_px × size_px  # (H, W, 3)

    Raises:
        PictureRefused: its pixels cannot be decoded.
    """

    def middle(shown: _Shown) -> Image.Image:
        return _fitted(shown.shrunk(size_px) if file.pixels >= LARGE_PIXELS else shown.full(), size_px)

    return _decoded(file, size_px, middle)


def whole(file: PictureFile, size_px: int) -> NDArray[np.uint8]:
    """The whole picture, as large as it fits into size_px × size_px, in the middle of white  # (H, W, 3)

    Beside its decoded pixels a second copy of its full size exists.

    Raises:
        PictureRefused: its pixels cannot be decoded.
    """

    def padded(shown: _Shown) -> Image.Image:
        return ImageOps.pad(shown.full(), (size_px, size_px), Image.Resampling.BICUBIC, color=_BACKGROUND)

    return _decoded(file, size_px, padded)


def _decoded(file: PictureFile, size_px: int, fitted: Callable[["_Shown"], Image.Image]) -> NDArray[np.uint8]:
    try:
        with Image.open(io.BytesIO(file.data), formats=("PNG", "JPEG")) as image:
            if image.size != (file.width, file.height):  # a second header says otherwise
                raise PictureRefused(UNREADABLE)
            if file.pixels >= LARGE_PIXELS:
                image.draft(None, (_GAP * size_px, _GAP * size_px))  # a JPEG is decoded smaller
            image.load()
            shown = fitted(_Shown(image, file))
        turn = _UPRIGHT.get(file.orientation)
        return np.asarray(shown if turn is None else shown.transpose(turn), np.uint8)
    except PictureRefused:
        raise
    except _BOMB as error:
        raise PictureRefused("has more pixels than Pillow decodes") from error
    except _BROKEN as error:
        raise PictureRefused(UNREADABLE) from error


class _Shown:
    """A decoded picture's parts as a browser shows them, in RGB."""

    def __init__(self, image: Image.Image, file: PictureFile) -> None:
        self._image = image
        self._transparent = file.transparent
        self._colours = _COLOURS.get(image.mode, "RGB")
        self._to_srgb = _to_srgb(file.profile, self._colours)
        self._curve = _curve(file.gamma)

    def full(self) -> Image.Image:
        """The whole picture."""
        return self._shown(self._image)

    def shrunk(self, size_px: int) -> Image.Image:
        """The middle square at a few times size_px, or less if it has less, made band by band."""
        side = min(self._image.size)
        left, top = ((length - side) // 2 for length in self._image.size)
        factor = max(1, side // (_GAP * size_px))
        canvas = Image.new("RGB", (-(-side // factor), -(-side // factor)))
        rows = max(1, _BAND_PIXELS // side // factor) * factor
        for row in range(0, side, rows):
            band = self._image.crop((left, top + row, left + side, top + min(row + rows, side)))
            canvas.paste(self._shown(band).reduce(factor), (0, row // factor))
        return canvas

    def _shown(self, band: Image.Image) -> Image.Image:
        if band.mode == "P":
            band = band.convert("RGBA" if band.has_transparency_data else "RGB")
        alpha = self._alpha(band)
        colours = self._in_srgb(_eight_bits(band))
        if alpha is None:
            return colours
        colours.putalpha(alpha)
        canvas = Image.new("RGBA", band.size, (*_BACKGROUND, 255))
        return Image.alpha_composite(canvas, colours).convert("RGB")

    def _in_srgb(self, band: Image.Image) -> Image.Image:
        if self._to_srgb is None:
            plain = band.convert("RGB")
            return plain if self._curve is None else plain.point(self._curve * 3)
        shown = ImageCms.applyTransform(band.convert(self._colours), self._to_srgb)
        assert shown is not None  # it would be if it had been changed in place
        return shown

    def _alpha(self, band: Image.Image) -> Image.Image | None:
        """How opaque each pixel is, mode L; None where all are."""
        if self._transparent is not None:
            pixels = np.asarray(band.convert("L") if band.mode == "1" else band).reshape(band.height, band.width, -1)
            return Image.fromarray(np.where((pixels == self._transparent).all(-1), 0, 255).astype(np.uint8))
        return band.getchannel("A") if "A" in band.getbands() else None


def _eight_bits(band: Image.Image) -> Image.Image:
    """Of 16 bits the upper eight, as Pillow itself reads 16-bit RGB."""
    if band.mode != "I;16":
        return band
    return Image.fromarray((np.asarray(band) >> 8).astype(np.uint8))


def _to_srgb(profile: bytes, colours: str) -> ImageCms.ImageCmsTransform | None:
    """None for a picture without profile, and for one that is broken or of other colours, as browsers do."""
    if not profile:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), colours, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def _curve(gamma: float) -> list[int] | None:
    """sRGB's sample for each of 256; None for samples that are as good as sRGB, whose gamma is about 1 / 2.2."""
    if not 0.01 <= gamma <= 100 or abs(2.2 * gamma - 1) < _SAME_GAMMA:
        return None
    light = (np.arange(256) / 255) ** (1 / gamma)
    samples = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return [int(sample) for sample in (255 * samples).round()]


def _fitted(image: Image.Image, size_px: int) -> Image.Image:
    """The middle square; untouched if it already fits."""
    if image.size == (size_px, size_px):
        return image
    return ImageOps.fit(image, (size_px, size_px), Image.Resampling.BICUBIC)
