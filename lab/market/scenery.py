"""The scene behind the model, and the small differences of light between two photographs."""

import numpy as np
from PIL import Image, ImageDraw

from lab.market.textures import Rgb


def backdrop(name: str, rng: np.random.Generator, size_px: int, scale: int) -> Image.Image:
    """An RGB scene of side size_px·scale: a studio wall, a beach, or a city street."""
    side = size_px * scale
    if name == "beach":
        return _beach(rng, side)
    if name == "city":
        return _city(rng, side)
    return _studio(rng, side)


def vary(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture in another light: brightness and a slight colour cast, uint8 (H, W, 3)."""
    gain = rng.uniform(0.94, 1.06) * rng.uniform(0.98, 1.02, size=3)
    return np.clip(picture * gain, 0, 255).astype(np.uint8)


def _jitter(rgb: Rgb, rng: np.random.Generator, spread: int = 10) -> Rgb:
    r, g, b = (int(np.clip(c + rng.integers(-spread, spread + 1), 0, 255)) for c in rgb)
    return r, g, b


def _studio(rng: np.random.Generator, side: int) -> Image.Image:
    image = Image.new("RGB", (side, side), _jitter((226, 228, 232), rng, 8))
    floor = _jitter((204, 204, 208), rng, 8)
    ImageDraw.Draw(image).rectangle((0, int(side * 0.88), side, side), fill=floor)
    return image


def _beach(rng: np.random.Generator, side: int) -> Image.Image:
    image = Image.new("RGB", (side, side), _jitter((150, 212, 246), rng))
    ink = ImageDraw.Draw(image)
    ink.rectangle((0, int(side * 0.5), side, int(side * 0.72)), fill=_jitter((48, 160, 190), rng))
    ink.rectangle((0, int(side * 0.72), side, side), fill=_jitter((240, 220, 164), rng))
    x, r = side * rng.uniform(0.08, 0.2), side * 0.07
    ink.ellipse((x - r, side * 0.08, x + r, side * 0.08 + 2 * r), fill=(255, 240, 140))
    return image


def _city(rng: np.random.Generator, side: int) -> Image.Image:
    image = Image.new("RGB", (side, side), _jitter((176, 178, 190), rng))
    ink = ImageDraw.Draw(image)
    unit = side / 64
    wall = _jitter((112, 108, 118), rng, 14)
    for left, top in ((0, 10), (11, 5), (45, 5), (56, 12)):
        ink.rectangle((left * unit, top * unit, (left + 9) * unit, 56 * unit), fill=wall)
        for y in range(8 * (top // 8 + 1), 52, 8):
            box = ((left + 2) * unit, y * unit, (left + 7) * unit, (y + 4) * unit)
            ink.rectangle(box, fill=(250, 232, 150))
    ink.rectangle((0, int(56 * unit), side, side), fill=_jitter((84, 84, 92), rng))
    return image
