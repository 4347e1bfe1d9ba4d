"""What the pixels need of a file is kept; all else costs next to nothing, however large and odd it is."""

import struct
import time
import zlib

import pytest
from PIL import Image, PngImagePlugin

from contract.picture_files import MAX_PARTS, MAX_SCANS, PictureRefused, picture_file
from tests.contract.picture_makers import GREY, PALETTE, RGB, chunk, encoded, exif, png, srgb

PLAIN = png((1, 2, 3), 8, RGB)
JPEG = encoded(Image.new("RGB", (40, 30), "red"), "JPEG")
VAST = zlib.compress(bytes(2**24), 9)  # 16 MiB in 16 KiB
EXIF = b"Exif\0\0"


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg_with(*segments: bytes) -> bytes:
    """After the JFIF mark, as cameras write them."""
    (length,) = struct.unpack_from(">H", JPEG, 4)
    return JPEG[: 4 + length] + b"".join(segments) + JPEG[4 + length :]


def test_the_size_is_known_without_decoding() -> None:
    for data, size in ((PLAIN, (16, 16)), (JPEG, (40, 30))):
        file = picture_file(data)
        assert (file.width, file.height) == size and file.pixels == size[0] * size[1]
        assert (file.orientation, file.profile, file.transparent) == (1, b"", None)


def test_of_a_plain_file_everything_is_kept() -> None:
    assert picture_file(PLAIN).data == PLAIN
    assert picture_file(JPEG).data == JPEG
    colours = chunk(b"PLTE", bytes(6)) + chunk(b"tRNS", b"\0")
    with_palette = png((1,), 2, PALETTE, before=colours)
    assert picture_file(with_palette).data == with_palette


@pytest.mark.parametrize(
    "chunks",
    [
        chunk(b"zTXt", b"workflow\0\0" + VAST),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + VAST),
        chunk(b"tEXt", b"parameters\0" + b"x" * 2**21),
        chunk(b"zTXt", b"broken\0\0no zlib"),
        chunk(b"tEXt", b"a\0b") * 50_000,
        chunk(b"acTL", struct.pack(">II", 2, 0)) + chunk(b"fdAT", bytes(100)),
        chunk(b"prVt", bytes(10_000)),
        chunk(b"eXIf", b"II*\0\x08\0\0\0\xff\xff" + bytes(2**20)),
    ],
    ids=["zTXt", "iTXt", "tEXt", "broken", "many", "animation", "private", "exif"],
)
def test_other_chunks_of_a_png_are_left_out(chunks: bytes) -> None:
    assert picture_file(png((1, 2, 3), 8, RGB, before=chunks)).data == PLAIN


def test_text_that_pillow_writes_compressed_is_left_out() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("workflow", '{"nodes":[]}' * 200_000, zip=True)
    picture = Image.new("RGB", (16, 16))
    assert picture_file(encoded(picture, pnginfo=info)).data == encoded(picture)


@pytest.mark.parametrize(
    "segments",
    [
        [segment(0xFE, b"\xff\xda comment") for _ in range(2000)],
        [segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"x" * 60_000)] * 20,
        [segment(0xE1, EXIF + exif(6)), segment(0xE2, b"MPF\0" + bytes(80)), segment(0xED, b"Photoshop 3.0\0")],
    ],
    ids=["comments", "xmp", "camera"],
)  # fmt: skip
def test_other_segments_of_a_jpeg_are_left_out(segments: list[bytes]) -> None:
    assert picture_file(jpeg_with(*segments)).data == JPEG


def test_what_follows_the_end_is_left_out() -> None:
    assert picture_file(PLAIN + b"appended" * 99).data == PLAIN
    assert picture_file(JPEG + JPEG).data == JPEG


def test_markers_that_fill_a_jpeg_are_skipped() -> None:
    assert picture_file(jpeg_with(b"\xff\xff\xff" + segment(0xFE, b"x"), b"\xff\x01")).data == JPEG


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
def test_orientation_is_read_in_both_byte_orders(order: str, kind: int) -> None:
    said = exif(6, order, kind)
    assert picture_file(jpeg_with(segment(0xE1, EXIF + said))).orientation == 6
    assert picture_file(png((1, 2, 3), 8, RGB, before=chunk(b"eXIf", said))).orientation == 6
    assert picture_file(png((1, 2, 3), 8, RGB, before=chunk(b"eXIf", EXIF + said))).orientation == 6


@pytest.mark.parametrize(
    "said", [b"", b"MM", exif(0), exif(9), exif(6)[:12], b"XX" + exif(6)[2:], b"II*\0\xff\xff\xff\x7f", exif(6, kind=5)]
)
def test_a_broken_orientation_is_upright(said: bytes) -> None:
    assert picture_file(jpeg_with(segment(0xE1, EXIF + said))).orientation == 1


def test_exif_whose_entries_all_point_at_one_large_value_costs_nothing() -> None:
    """65,535 entries of a mebibyte each would be 64 GiB."""
    entries = b"".join(struct.pack("<HHII", 0x8000 + n % 0x1000, 7, 2**20, 0) for n in range(0xFFFF))
    bomb = struct.pack("<2sHIH", b"II", 42, 8, 0xFFFF) + entries + bytes(2**20)
    started = time.process_time()
    assert picture_file(png((1, 2, 3), 8, RGB, before=chunk(b"eXIf", bomb))).orientation == 1
    assert time.process_time() - started < 5


def test_a_profile_is_put_together_from_its_parts_in_their_order() -> None:
    profile, mark = srgb(), b"ICC_PROFILE\0"
    parts = [mark + bytes([n + 1, 3]) + profile[n * 200 : (n + 1) * 200 if n < 2 else None] for n in range(3)]
    assert picture_file(jpeg_with(*(segment(0xE2, parts[n]) for n in (1, 0, 2)))).profile == profile
    assert (
        picture_file(png((1, 2, 3), 8, RGB, before=chunk(b"iCCP", b"x\0\0" + zlib.compress(profile)))).profile
        == profile
    )


def test_a_part_that_is_cut_off_takes_no_picture_along() -> None:
    assert picture_file(jpeg_with(segment(0xE2, b"ICC_PROFILE\0"))).profile == b""
    for pixel, colours in (((1,), GREY), ((1, 2, 3), RGB)):
        for said in (b"", b"\0", bytes(7)):
            assert picture_file(png(pixel, 8, colours, before=chunk(b"tRNS", said))).transparent is None


def test_a_profile_that_unfolds_into_too_much_is_ignored() -> None:
    assert picture_file(png((1, 2, 3), 8, RGB, before=chunk(b"iCCP", b"x\0\0" + VAST))).profile == b""


def test_the_transparent_colour_is_told_as_pixels_are_decoded() -> None:
    def of(pixel: tuple[int, ...], depth: int, colours: int, *samples: int) -> tuple[int, ...] | None:
        before = chunk(b"tRNS", struct.pack(f">{len(samples)}H", *samples))
        return picture_file(png(pixel, depth, colours, before=before)).transparent

    assert [of((0,), depth, GREY, 1) for depth in (1, 2, 4, 8, 16)] == [(255,), (85,), (17,), (1,), (1,)]
    assert of((0, 0, 0), 8, RGB, 1, 2, 3) == (1, 2, 3) and of((0, 0, 0), 16, RGB, 0x1FF, 0x200, 0x3FF) == (1, 2, 3)


SOF = JPEG.index(b"\xff\xc0")
SCAN = JPEG[JPEG.index(b"\xff\xda") : -2]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (PLAIN[:-12], "it ends too early"),
        (PLAIN[:-1], "it ends too early"),
        (PLAIN[:20], "it ends too early"),
        (PLAIN[:8], "it ends too early"),
        (JPEG[:-2], "it ends too early"),
        (JPEG[:-1], "it ends too early"),
        (JPEG[:3], "it ends too early"),
        (PLAIN[:8] + chunk(b"tEXt") + PLAIN[8:], "is not a readable PNG or JPEG"),
        (png((1,), 8, GREY, size=(0, 5)), "is not a readable PNG or JPEG"),
        (PLAIN[:24] + b"\0" + PLAIN[25:], "is not a readable PNG or JPEG"),  # no bits in a sample
        (JPEG[: SOF + 5] + b"\0\0" + JPEG[SOF + 7 :], "is not a readable PNG or JPEG"),  # no height
        (b"\xff\xd8\xff\xd9", "is not a readable PNG or JPEG"),
        (jpeg_with(b"in between"), "is not a readable PNG or JPEG"),
        (jpeg_with(segment(0xFE, b"") * (MAX_PARTS + 1)), f"more than {MAX_PARTS} parts"),
        (png((1,), 8, GREY, before=chunk(b"tEXt") * (MAX_PARTS + 1)), f"more than {MAX_PARTS} parts"),
        (JPEG[:-2] + SCAN * MAX_SCANS + JPEG[-2:], f"has {MAX_SCANS + 1} scans; at most {MAX_SCANS}"),
    ],
)
def test_what_is_refused_and_why(data: bytes, says: str) -> None:
    with pytest.raises(PictureRefused, match=says):
        picture_file(data)
