"""A PNG's or JPEG's parts: what its pixels need of the file, and none of the rest.

Metadata may be as large as the file, and unfold into far more; a decoder that reads all of it pays for all of it. Here
the parts are walked by their lengths. What describes the pixels is kept; colour profile, orientation and the one
transparent colour are read within bounds; all else (texts, previews, further pictures of the file) is left out. No
pixel is decoded: a picture's size is known at the price of its headers.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"

MAX_PARTS = 100_000  # chunks of a PNG, segments of a JPEG
MAX_SCANS = 100  # of a JPEG: each one may cost a pass over all pixels; photographs have one to about ten
MAX_PROFILE_BYTES = 8 * 2**20  # unfolded; a larger colour profile is ignored

UNREADABLE = "is not a readable PNG or JPEG"
_ENDS_EARLY = f"{UNREADABLE}: it ends too early"
_TOO_MANY_PARTS = f"has more than {MAX_PARTS} parts"
_PIXELS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_PALETTE, _GREY, _RGB = 3, 0, 2  # PNG's colour types
_DEPTHS = (1, 2, 4, 8, 16)  # bits of a sample
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG's SOF0 to SOF15
_ALONE = {0x01, *range(0xD0, 0xD9)}  # JPEG's markers without a body
_SCAN, _END, _COMMENT, _APPS = 0xDA, 0xD9, 0xFE, range(0xE0, 0xF0)
_AFTER_A_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # the next marker; 0xff00 and restarts are of the scan
_EXIF, _ICC = b"Exif\0\0", b"ICC_PROFILE\0"
_ORIENTATION_TAG, _INTEGERS = 0x0112, {3: "H", 4: "I"}


class PictureRefused(ValueError):
    """A picture that will not be decoded; the message says why, in words for who gave it."""


@dataclass(frozen=True)
class PictureFile:
    """A file whose pixels are not yet decoded."""

    data: bytes  # what the pixels need
    width: int
    height: int
    orientation: int = 1  # EXIF's, 1 to 8
    profile: bytes = b""  # ICC; empty for sRGB, or an unusable one
    gamma: float = (
        0  # of a PNG that says how its samples are encoded, and has neither profile nor sRGB; 0: it says nothing
    )
    transparent: tuple[int, ...] | None = None  # the one transparent colour, (grey,) of 8 or 16 bits or (r, g, b) of 8

    @property
    def pixels(self) -> int:
        """Width × height."""
        return self.width * self.height


def picture_file(data: bytes) -> PictureFile:
    """The parts of a PNG or JPEG.

    Raises:
        PictureRefused: another format, or a file that is broken, cut off, or made of too many parts.
    """
    try:
        if data.startswith(PNG):
            return _png(memoryview(data))
        if data.startswith(JPEG):
            return _jpeg(data)
    except (struct.error, IndexError) as error:
        raise PictureRefused(_ENDS_EARLY) from error
    raise PictureRefused(UNREADABLE)


def _png(data: memoryview) -> PictureFile:
    kept, found = [data[: len(PNG)]], dict[bytes, memoryview]()
    for name, whole, body in _chunks(data):
        if not found and (name != b"IHDR" or len(body) != 13):
            raise PictureRefused(UNREADABLE)
        found.setdefault(name, body)
        if name in _PIXELS or (name == b"tRNS" and found[b"IHDR"][9] == _PALETTE):
            kept.append(whole)
    width, height, depth, colours = struct.unpack_from(">IIBB", found[b"IHDR"])
    if depth not in _DEPTHS:
        raise PictureRefused(UNREADABLE)
    return _checked(
        PictureFile(
            data=b"".join(kept),
            width=width,
            height=height,
            orientation=_orientation(bytes(found.get(b"eXIf", b""))),
            profile=_unfolded_profile(bytes(found.get(b"iCCP", b""))),
            gamma=0 if found.keys() & {b"iCCP", b"sRGB"} else _gamma(bytes(found.get(b"gAMA", b""))),
            transparent=_transparent(found.get(b"tRNS"), depth, colours),
        )
    )


def _chunks(data: memoryview) -> Iterator[tuple[bytes, memoryview, memoryview]]:
    """Name, whole and body of every chunk to the last, IEND."""
    at = len(PNG)
    for _ in range(MAX_PARTS):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise PictureRefused(_ENDS_EARLY)
        yield name, data[at:end], data[at + 8 : end - 4]
        if name == b"IEND":
            return
        at = end
    raise PictureRefused(_TOO_MANY_PARTS)


def _unfolded_profile(body: bytes) -> bytes:
    """Of an iCCP chunk: a name, a zero, the method, and a zlib stream."""
    _, _, rest = body.partition(b"\0")
    unfolding = zlib.decompressobj()
    try:
        profile = unfolding.decompress(rest[1:], MAX_PROFILE_BYTES)
    except zlib.error:
        return b""
    return profile if unfolding.eof else b""


def _gamma(body: bytes) -> float:
    """Of a gAMA chunk, in hundred thousandths: samples are light to this power."""
    return float(struct.unpack(">I", body)[0]) / 100_000 if len(body) == 4 else 0


def _transparent(body: memoryview | None, depth: int, colours: int) -> tuple[int, ...] | None:
    """Of a tRNS chunk, which holds samples of the picture's depth; those below 8 bits as they become with 8.

    One of another length is ignored, as browsers do.
    """
    form = {_GREY: ">H", _RGB: ">HHH"}.get(colours, "")
    if body is None or not form or len(body) != struct.calcsize(form):
        return None
    samples = struct.unpack(form, body)
    if depth < 8:
        return tuple(sample * 255 // (2**depth - 1) for sample in samples)
    return tuple(sample >> 8 for sample in samples) if depth == 16 and colours == _RGB else samples


def _jpeg(data: bytes) -> PictureFile:
    kept, size, scans = [data[:2]], (0, 0), 0
    exif, profile = b"", dict[int, bytes]()
    for marker, whole, body in _segments(data):
        if marker in _FRAMES:
            height, width = struct.unpack_from(">HH", body, 1)
            size = (width, height)
        elif marker == 0xE1 and body.startswith(_EXIF):
            exif = exif or body.removeprefix(_EXIF)
        elif marker == 0xE2 and body.startswith(_ICC) and len(body) > len(_ICC):
            profile[body[len(_ICC)]] = body[len(_ICC) + 2 :]
        scans += marker == _SCAN
        if (marker not in _APPS and marker != _COMMENT) or body.startswith((b"JFIF\0", b"Adobe")):
            kept.append(whole)
    if scans > MAX_SCANS:
        raise PictureRefused(f"has {scans} scans; at most {MAX_SCANS}")
    whole_profile = b"".join(profile[place] for place in sorted(profile))
    return _checked(
        PictureFile(
            data=b"".join([*kept, b"\xff\xd9"]),
            width=size[0],
            height=size[1],
            orientation=_orientation(exif),
            profile=whole_profile if len(whole_profile) <= MAX_PROFILE_BYTES else b"",
        )
    )


def _segments(data: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Marker, whole and body of every segment to the end of the picture; the pixels of a scan are of its whole."""
    at = 2
    for _ in range(MAX_PARTS):
        marker = data[at + 1]
        if data[at] != 0xFF:
            raise PictureRefused(UNREADABLE)
        if marker == 0xFF or marker in _ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker == _END:
            return
        (length,) = struct.unpack_from(">H", data, at + 2)
        end = at + 2 + length
        following = _AFTER_A_SCAN.search(data, end) if marker == _SCAN else None
        if end > len(data) or (marker == _SCAN and following is None):
            raise PictureRefused(_ENDS_EARLY)
        body, end = data[at + 4 : end], following.start() if following else end
        yield marker, data[at:end], body
        at = end
    raise PictureRefused(_TOO_MANY_PARTS)


def _orientation(exif: bytes) -> int:
    """Of EXIF's first directory; 1, which is upright, where there is none or it is broken."""
    tiff = exif.removeprefix(_EXIF)
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2], "")
    if not order:
        return 1
    try:
        (first,) = struct.unpack_from(f"{order}4xI", tiff)
        (entries,) = struct.unpack_from(f"{order}H", tiff, first)
        for at in range(first + 2, first + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", tiff, at)
            if tag == _ORIENTATION_TAG and kind in _INTEGERS:
                (value,) = struct.unpack_from(order + _INTEGERS[kind], tiff, at + 8)
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1


def _checked(file: PictureFile) -> PictureFile:
    if not file.pixels:
        raise PictureRefused(UNREADABLE)
    return file
