"""Fabric tiles: one raster per pattern and colour, fixed to the picture so that details stay bold.

Knows colours and repeats; lab.market.drawing places the fabric on a garment.
"""

from functools import lru_cache

from PIL import Image, ImageDraw

from lab.market.geometry import Point

Rgb = tuple[int, int, int]

COLOURS: dict[str, Rgb] = {
    "black": (38, 38, 44), "white": (248, 248, 250), "red": (208, 32, 40),
    "blue": (40, 88, 208), "green": (36, 148, 72), "yellow": (246, 210, 40),
    "pink": (250, 150, 190), "purple": (132, 56, 176), "beige": (224, 200, 160),
    "brown": (124, 76, 40),
}  # fmt: skip
LIGHT = ("white", "yellow", "pink", "beige")


def contrast(colour: str) -> Rgb:
    """What shows on this colour: navy on light fabrics, near-white on dark ones."""
    return (44, 48, 96) if colour in LIGHT else (250, 248, 240)


def darker(rgb: Rgb, share: float = 0.6) -> Rgb:
    """The colour with its brightness scaled by `share`."""
    return (int(rgb[0] * share), int(rgb[1] * share), int(rgb[2] * share))


@lru_cache(maxsize=256)
def fabric(pattern: str, colour: str, size_px: int, scale: int) -> Image.Image:
    """A (size_px·scale)² RGB sheet of the fabric; drawn once for each pattern and colour."""
    sheet = Image.new("RGB", (size_px * scale, size_px * scale), COLOURS[colour])
    draw = ImageDraw.Draw(sheet)
    painter = {"striped": _stripes, "dotted": _dots, "checked": _checks, "floral": _flowers}
    if pattern in painter:
        painter[pattern](draw, colour, size_px, scale)
    return sheet


def disc(draw: ImageDraw.ImageDraw, centre: Point, radius: float, fill: Rgb, scale: int) -> None:
    """A filled circle; centre and radius in picture pixels."""
    x, y, r = centre[0] * scale, centre[1] * scale, radius * scale
    draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)


def _stripes(draw: ImageDraw.ImageDraw, colour: str, size: int, scale: int) -> None:
    for x in range(1, size, 4):
        draw.rectangle((x * scale, 0, (x + 2) * scale - 1, size * scale), fill=contrast(colour))


def _dots(draw: ImageDraw.ImageDraw, colour: str, size: int, scale: int) -> None:
    for row, y in enumerate(range(2, size + 4, 4)):
        for x in range(2 + 4 * (row % 2), size + 4, 8):
            disc(draw, (x, y), 1.7, contrast(colour), scale)


def _checks(draw: ImageDraw.ImageDraw, colour: str, size: int, scale: int) -> None:
    base, ink = COLOURS[colour], contrast(colour)
    mix = (int(0.4 * base[0] + 0.6 * ink[0]), int(0.4 * base[1] + 0.6 * ink[1]),
           int(0.4 * base[2] + 0.6 * ink[2]))  # fmt: skip
    for at in range(0, size, 8):
        draw.rectangle((at * scale, 0, (at + 4) * scale - 1, size * scale), fill=mix)
    for at in range(0, size, 8):
        draw.rectangle((0, at * scale, size * scale, (at + 4) * scale - 1), fill=mix)
    for x in range(0, size, 8):
        for y in range(0, size, 8):
            draw.rectangle((x * scale, y * scale, (x + 4) * scale - 1, (y + 4) * scale - 1),
                           fill=ink)  # fmt: skip


def _flowers(draw: ImageDraw.ImageDraw, colour: str, size: int, scale: int) -> None:
    petal: Rgb = (255, 255, 255) if colour in ("pink", "red", "purple") else (255, 96, 160)
    for row, y in enumerate(range(2, size + 4, 4)):
        for x in range(2 + 4 * (row % 2), size + 4, 8):
            for dx, dy in ((0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)):
                disc(draw, (x + dx, y + dy), 1.2, petal, scale)
            disc(draw, (x, y), 0.9, (255, 200, 0), scale)
            disc(draw, (x + 4, y), 0.9, (40, 140, 60), scale)
