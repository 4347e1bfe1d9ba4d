"""Files of pictures for tests, made byte by byte where Pillow does not write what people send."""

import io
import struct
import zlib
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageCms

SIGNATURE = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6  # PNG's colour types
_SAMPLES = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def chunk(name: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(
    pixel: Sequence[int],
    depth: int,
    colours: int,
    *,
    size: tuple[int, int] = (16, 16),
    before: bytes = b"",
    interlaced: bool = False,
) -> bytes:
    """A picture of one colour, given by its samples; `before` are chunks before its pixels."""
    assert len(pixel) == _SAMPLES[colours]
    width, height = size
    passes = _ADAM7 if interlaced else ((0, 0, 1, 1),)
    packing, packed = zlib.compressobj(9), []
    for left, top, across, down in passes:
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            row = b"\0" + _row(pixel, depth, columns)
            packed += [packing.compress(row) for _ in range(rows)]
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colours, 0, 0, int(interlaced)))
    return SIGNATURE + header + before + chunk(b"IDAT", b"".join([*packed, packing.flush()])) + chunk(b"IEND")


def _row(pixel: Sequence[int], depth: int, columns: int) -> bytes:
    if depth == 16:
        return struct.pack(f">{len(pixel)}H", *pixel) * columns
    if depth == 8:
        return bytes(pixel) * columns
    bits = f"{pixel[0]:0{depth}b}" * columns
    return bytes(int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """As Pillow writes it."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def srgb() -> bytes:
    """An ICC profile."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def exchanged() -> bytes:
    """sRGB's profile with red and green exchanged, so that its use cannot be overlooked."""
    profile = bytearray(srgb())
    (tags,) = struct.unpack_from(">I", profile, 128)
    for at in range(132, 132 + 12 * tags, 12):
        name = bytes(profile[at : at + 4])
        profile[at : at + 4] = {b"rXYZ": b"gXYZ", b"gXYZ": b"rXYZ"}.get(name, name)
    return bytes(profile)


def padded(profile: bytes, size: int) -> bytes:
    """The same profile, as large as you like."""
    return struct.pack(">I", size) + profile[4:].ljust(size - 4, b"\0")


def linear_grey() -> bytes:
    """The ICC profile of grey whose samples are light itself, as cameras count it."""
    curve, white = struct.pack(">4s4xI", b"curv", 0), struct.pack(">4s4xiii", b"XYZ ", 63190, 65536, 54061)
    tags = struct.pack(">I4sII4sII", 2, b"kTRC", 156, len(curve), b"wtpt", 168, len(white))
    header = struct.pack(">I4xI4s4s4s", 188, 0x02400000, b"scnr", b"GRAY", b"XYZ ").ljust(36, b"\0") + b"acsp"
    header = header.ljust(68, b"\0") + struct.pack(">iii", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + tags + curve + white


def exif(orientation: int, order: str = ">", kind: int = 3) -> bytes:
    """EXIF that says nothing else, without its prefix."""
    mark = b"MM" if order == ">" else b"II"
    value = struct.pack(f"{order}{'H2x' if kind == 3 else 'I'}", orientation)
    return mark + struct.pack(f"{order}HIHHHI", 42, 8, 1, 0x0112, kind, 1) + value + bytes(4)
