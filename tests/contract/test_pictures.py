"""What a browser shows of a file is what a model gets, whatever the file's format."""

import io
import struct
import zlib
from contextlib import suppress
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from contract.picture_files import PictureRefused
from contract.pictures import LARGE_PIXELS, PictureLimits, opened, square, whole
from tests.contract.picture_makers import (
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    RGBA,
    chunk,
    encoded,
    exchanged,
    linear_grey,
    padded,
    png,
    srgb,
)

LIMITS = PictureLimits(max_bytes=2**24, max_pixels=25_000_000)
COLOURS = chunk(b"PLTE", bytes((10, 20, 30, 200, 100, 50)))
WHITE = (255, 255, 255)


def shown(data: bytes, size_px: int = 16) -> NDArray[np.uint8]:
    return square(opened(data, LIMITS), size_px)


def assert_is(data: bytes, colour: tuple[int, ...], off: int = 0) -> None:
    found = shown(data)
    assert found.shape == (16, 16, 3) and found.dtype == np.uint8
    assert np.abs(found.astype(int) - colour).max() <= off, (found[8, 8], colour)


def trns(*samples: int) -> bytes:
    return chunk(b"tRNS", struct.pack(f">{len(samples)}H", *samples))


# samples, depth, colour type, chunks before the pixels, what is shown
PNGS = [
    *[((2**depth - 1,), depth, GREY, b"", WHITE) for depth in (1, 2, 4, 8, 16)],
    *[((0,), depth, GREY, b"", (0, 0, 0)) for depth in (1, 2, 4, 8, 16)],
    ((1,), 2, GREY, b"", (85,) * 3),
    ((7,), 4, GREY, b"", (119,) * 3),
    ((0x80FF,), 16, GREY, b"", (128,) * 3),
    ((200, 100, 50), 8, RGB, b"", (200, 100, 50)),
    ((0xC8FF, 0x6400, 0x32AA), 16, RGB, b"", (200, 100, 50)),
    ((100, 255), 8, GREY_ALPHA, b"", (100,) * 3),
    ((100, 0), 8, GREY_ALPHA, b"", WHITE),
    ((0x6400, 0x8000), 16, GREY_ALPHA, b"", (177,) * 3),
    ((200, 100, 50, 255), 8, RGBA, b"", (200, 100, 50)),
    ((0, 0, 0, 51), 8, RGBA, b"", (204,) * 3),
    ((0, 0, 0, 0x33FF), 16, RGBA, b"", (204,) * 3),
    *[((1,), depth, PALETTE, COLOURS, (200, 100, 50)) for depth in (1, 2, 4, 8)],
    *[((1,), depth, PALETTE, COLOURS + chunk(b"tRNS", b"\xff\0"), WHITE) for depth in (1, 2, 4, 8)],
    ((0,), 8, PALETTE, COLOURS + chunk(b"tRNS", b"\x33\0"), (206, 208, 210)),
    *[((1,), depth, GREY, trns(1), WHITE) for depth in (1, 2, 4, 8, 16)],
    *[((0,), depth, GREY, trns(0), WHITE) for depth in (1, 2, 4, 8, 16)],
    *[((0,), depth, GREY, trns(1), (0, 0, 0)) for depth in (1, 2, 4, 8, 16)],
    ((0x8001,), 16, GREY, trns(0x8000), (128,) * 3),  # another grey of the same upper half
    ((200, 100, 50), 8, RGB, trns(200, 100, 50), WHITE),
    ((200, 100, 50), 8, RGB, trns(200, 100, 51), (200, 100, 50)),
    ((0xC8FF, 0x6400, 0x32AA), 16, RGB, trns(0xC8FF, 0x6400, 0x32AA), WHITE),
]


@pytest.mark.parametrize("interlaced", [False, True], ids=["rows", "adam7"])
@pytest.mark.parametrize(("pixel", "depth", "colours", "before", "expected"), PNGS)
def test_every_kind_of_png(
    pixel: tuple[int, ...], depth: int, colours: int, before: bytes, expected: tuple[int, ...], interlaced: bool
) -> None:
    for size in ((16, 16), (33, 17)):
        assert_is(png(pixel, depth, colours, before=before, interlaced=interlaced, size=size), expected)


def test_sixteen_bits_of_grey_are_scaled_and_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    np.testing.assert_array_equal(shown(encoded(Image.fromarray(ramp)))[..., 1], ramp >> 8)


def jpeg(colour: tuple[int, ...], mode: str = "RGB", **options: object) -> bytes:
    return encoded(Image.new(mode, (48, 32), colour if len(colour) > 1 else colour[0]), "JPEG", quality=95, **options)


MPO = encoded(
    Image.new("RGB", (32, 32), (200, 100, 50)), "MPO", save_all=True, append_images=[Image.new("RGB", (32, 32))]
)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (jpeg((200, 100, 50)), (200, 100, 50)),
        (jpeg((200, 100, 50), progressive=True), (200, 100, 50)),
        (jpeg((200, 100, 50), subsampling=0, restart_marker_rows=1), (200, 100, 50)),
        (jpeg((200, 100, 50), keep_rgb=True), (200, 100, 50)),
        (jpeg((130,), "L"), (130, 130, 130)),
        (jpeg((55, 155, 205, 0), "CMYK"), (200, 100, 50)),  # with Adobe's mark: its inks are stored inverted
        (jpeg((200, 100, 50), comment=b"\xff\xda" * 1000), (200, 100, 50)),
        (MPO, (200, 100, 50)),
        (jpeg((200, 100, 50)) + b"whatever follows" * 1000, (200, 100, 50)),
    ],
)  # fmt: skip
def test_every_kind_of_jpeg(data: bytes, expected: tuple[int, ...]) -> None:
    assert_is(data, expected, off=3)


def test_of_an_animated_png_the_first_frame_is_shown() -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    assert_is(encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]), (255, 0, 0))
    unplayed = encoded(Image.new("RGB", (16, 16), "lime"), save_all=True, append_images=frames, default_image=True)
    assert_is(unplayed, (0, 255, 0))


# ---- colour profiles ----------------------------------------------------------------------------


def by_profile(colour: tuple[int, int, int], profile: bytes) -> tuple[int, ...]:
    """What littleCMS itself makes of a colour."""
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    seen = ImageCms.profileToProfile(Image.new("RGB", (1, 1), colour), source, ImageCms.createProfile("sRGB"))
    assert seen is not None
    return tuple(map(int, np.asarray(seen)[0, 0]))


RED = (230, 20, 20)


def test_colours_are_shown_by_the_files_own_profile() -> None:
    expected = by_profile(RED, exchanged())
    assert expected[1] > 200 > 100 > expected[0]
    plain = Image.new("RGB", (16, 16), RED)
    for picture in (plain, plain.convert("RGBA"), plain.quantize(2)):
        assert_is(encoded(picture, icc_profile=exchanged()), expected)
    assert_is(encoded(Image.new("RGB", (64, 64), RED), "JPEG", quality=95, icc_profile=exchanged()), expected, off=4)


def test_a_profile_as_large_as_it_likes_counts() -> None:
    for size in (2**20 + 1, 5 * 2**20):
        assert_is(png(RED, 8, RGB, before=iccp(padded(exchanged(), size))), by_profile(RED, exchanged()))
    many_parts = encoded(Image.new("RGB", (64, 64), RED), "JPEG", icc_profile=padded(exchanged(), 200_000))
    assert_is(many_parts, by_profile(RED, exchanged()), off=8)


def test_transparency_is_laid_on_white_after_the_profile() -> None:
    clear = png((*RED, 0), 8, RGBA, before=iccp(exchanged()))
    assert_is(clear, WHITE)
    half = tuple(round((c + 255) / 2) for c in by_profile(RED, exchanged()))
    assert_is(png((*RED, 128), 8, RGBA, before=iccp(exchanged())), half, off=1)


def test_grey_has_profiles_too() -> None:
    for data in (
        png((55,), 8, GREY, before=iccp(linear_grey())),
        png((55 << 8,), 16, GREY, before=iccp(linear_grey())),
        png((55, 255), 8, GREY_ALPHA, before=iccp(linear_grey())),
    ):
        assert_is(data, (128, 128, 128), off=2)  # 55/255 of the light


def gama(gamma: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(100_000 * gamma)))


def test_a_png_may_say_how_its_samples_are_encoded() -> None:
    assert_is(png((55, 0, 255), 8, RGB, before=gama(1.0)), (128, 0, 255))  # light itself
    assert_is(png((55 << 8,), 16, GREY, before=gama(1.0)), (128, 128, 128))
    assert_is(png((55, 55, 55, 0), 8, RGBA, before=gama(1.0)), WHITE)
    for nothing in (gama(1 / 2.2), gama(0), chunk(b"gAMA", b"\0"), chunk(b"sRGB", b"\0") + gama(1.0)):
        assert_is(png(RED, 8, RGB, before=nothing), RED)
    assert_is(png(RED, 8, RGB, before=gama(1.0) + iccp(exchanged())), by_profile(RED, exchanged()))


@pytest.mark.parametrize(
    "profile",
    [
        b"no profile",
        srgb()[:200],
        srgb()[:128] + bytes(len(srgb()) - 128),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
        linear_grey(),
        padded(exchanged(), 2**24),  # larger than any that is used
    ],
    ids=["no profile", "cut off", "empty tags", "lab", "of grey", "too large"],
)
def test_a_profile_that_cannot_be_used_is_ignored(profile: bytes) -> None:
    assert_is(png(RED, 8, RGB, before=iccp(profile)), RED)


@pytest.mark.parametrize(
    "body",
    [b"", b"name", b"name\0\0", b"name\0\0not deflated", b"name\0\0" + zlib.compress(srgb())[:50]],
    ids=["empty", "name", "no data", "not deflated", "cut"],  # a profile has the time of its making
)
def test_a_broken_profile_chunk_is_ignored(body: bytes) -> None:
    assert_is(png(RED, 8, RGB, before=chunk(b"iCCP", body)), RED)


def test_a_profile_of_other_colours_is_ignored() -> None:
    assert_is(png((100,), 8, GREY, before=iccp(exchanged())), (100, 100, 100))
    inks = encoded(Image.new("CMYK", (32, 32), (55, 155, 205, 0)), "JPEG", quality=95, icc_profile=exchanged())
    assert_is(inks, (200, 100, 50), off=3)


def iccp(profile: bytes) -> bytes:
    return chunk(b"iCCP", b"name\0\0" + zlib.compress(profile))


# ---- shape ----------------------------------------------------------------------------------------


def speckled(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_pictures_are_turned_as_their_exif_says(orientation: int, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    for size in ((16, 16), (40, 24)):
        data = encoded(speckled(*size), kind, exif=exif)
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.fit(ImageOps.exif_transpose(image), (16, 16), Image.Resampling.BICUBIC)
        assert np.abs(shown(data).astype(int) - np.asarray(upright)).max() <= (0 if size == (16, 16) else 1)


def test_a_picture_of_the_right_size_comes_back_pixel_for_pixel() -> None:
    np.testing.assert_array_equal(shown(encoded(speckled(16, 16))), np.asarray(speckled(16, 16)))


@pytest.mark.parametrize("size", [(40, 24), (24, 40), (17, 16), (300, 1), (1, 300), (8, 8)])
def test_the_middle_square_is_shown(size: tuple[int, int]) -> None:
    expected = ImageOps.fit(speckled(*size), (16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(shown(encoded(speckled(*size))), np.asarray(expected))


@cache
def smooth() -> Image.Image:
    y, x = np.mgrid[0:1800, 0:2400].astype(np.float32) / 2000
    waves = [128 + 100 * np.sin(5 * x + k) * np.cos(4 * y - k) for k in range(3)]
    return Image.fromarray(np.stack(waves, axis=-1).astype(np.uint8))


@pytest.mark.parametrize("orientation", [1, 6])
def test_the_whole_picture_is_shown_upright_in_the_middle_of_white(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    wide = encoded(Image.new("RGB", (64, 32), (10, 20, 30)), exif=exif)
    found = whole(opened(wide, LIMITS), 16)
    upright = found if orientation == 1 else found.transpose(1, 0, 2)
    assert (upright[4:12] == (10, 20, 30)).all()
    assert (upright[:4] == WHITE).all()
    assert (upright[12:] == WHITE).all()


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA", "CMYK"])
def test_a_large_picture_is_shrunk_to_what_a_resampling_in_one_go_gives(mode: str) -> None:
    """Smooth, as photographs are at this scale: its middle square within a grey level or two."""
    picture = smooth().convert(mode)
    assert picture.width * picture.height >= LARGE_PIXELS
    kinds = {"CMYK": ["JPEG"], "L": ["PNG", "JPEG"], "RGB": ["PNG", "JPEG"]}.get(mode, ["PNG"])
    whole = ImageOps.fit(picture.convert("RGB"), (64, 64), Image.Resampling.BICUBIC)
    for kind in kinds:
        found = shown(encoded(picture, kind, **({"quality": 95} if kind == "JPEG" else {"compress_level": 1})), 64)
        assert np.abs(found.astype(int) - np.asarray(whole)).max() <= (5 if kind == "JPEG" else 3)


def test_a_large_strip_is_shown_by_its_middle() -> None:
    strip = Image.new("RGB", (2**21, 3), "blue")
    strip.paste("red", (2**20 - 40, 0, 2**20 + 40, 3))
    assert_is(encoded(strip, compress_level=1), (255, 0, 0))
    assert_is(encoded(strip.transpose(Image.Transpose.ROTATE_90), compress_level=1), (255, 0, 0))


# ---- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b"not a picture", "is not a readable PNG or JPEG"),
        (encoded(Image.new("RGB", (16, 16)), "GIF"), "is not a readable PNG or JPEG"),
        (encoded(Image.new("RGB", (16, 16)), "WEBP"), "is not a readable PNG or JPEG"),
        (png((0,), 1, GREY, size=(6000, 6000)), "has 6000×6000 pixels; at most 25000000 in all"),
        (png((0,), 1, GREY, size=(25_000_001, 1)), "25000001×1 pixels"),
        (bytes(2**24 + 1), "has 16777217 bytes; at most 16777216"),
    ],
)
def test_what_is_beyond_the_limits_is_refused_in_words(data: bytes, says: str) -> None:
    with pytest.raises(PictureRefused, match=says):
        shown(data)


def test_more_pixels_than_pillow_decodes_are_refused_by_any_limit() -> None:
    vast = png((0,), 1, GREY, size=(20_000, 20_000))
    with pytest.raises(PictureRefused, match="more pixels than Pillow decodes"):
        square(opened(vast, PictureLimits(2**30, 2**40)), 16)


def test_a_second_header_does_not_get_more_pixels_past_the_limit() -> None:
    plain, vast = png((0, 0, 0), 8, RGB), struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0)
    with pytest.raises(PictureRefused, match="is not a readable"):
        shown(plain[:33] + chunk(b"IHDR", vast) + plain[33:])
    photo = encoded(Image.new("RGB", (16, 16)), "JPEG")
    frame = photo.index(b"\xff\xc0")
    larger = photo[frame : frame + 5] + struct.pack(">HH", 9000, 9000) + photo[frame + 9 : frame + 19]
    small = photo[frame : frame + 19]
    for data in (
        photo[:frame] + larger + photo[frame:],
        photo[:-2] + larger + photo[-2:],
        photo[:frame] + larger + photo[frame + 19 : -2] + small + photo[-2:],
    ):
        with pytest.raises(PictureRefused):
            shown(data)


WHOLE = [
    encoded(speckled(32, 32, 1)),
    encoded(speckled(32, 32, 1), "JPEG"),
    encoded(speckled(32, 32, 1), "JPEG", progressive=True, icc_profile=exchanged()),
    encoded(speckled(32, 32, 1).convert("P"), transparency=3, icc_profile=srgb()),
    png((7,), 4, GREY, before=trns(7) + iccp(linear_grey()), interlaced=True),
]


@given(st.sampled_from(WHOLE), st.floats(0, 1, exclude_max=True))
def test_a_file_that_is_cut_off_is_refused(whole: bytes, share: float) -> None:
    with pytest.raises(PictureRefused):
        shown(whole[: int(share * len(whole))])


@given(
    st.sampled_from(WHOLE),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4),
)
def test_a_file_that_is_broken_is_shown_or_refused(whole: bytes, changes: list[tuple[float, int]]) -> None:
    broken = bytearray(whole)
    for share, byte in changes:
        broken[int(share * len(whole))] = byte
    with suppress(PictureRefused):
        assert shown(bytes(broken)).shape == (16, 16, 3)


@given(st.binary(max_size=200), st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"]))
def test_any_bytes_are_refused(data: bytes, start: bytes) -> None:
    with pytest.raises(PictureRefused):
        shown(start + data)
