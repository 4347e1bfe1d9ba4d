"""Draws a garment on a model as a 64×64 picture in which every attribute can be recognised.

`draw(garment, rng)` varies pose, shade, skin, hair and scene; the garment's attributes stay what
they are. Knows attributes and pixels; neither merchants nor their taste.
"""

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageDraw

from lab.market.geometry import CROTCH_Y, HIP_Y, WAIST_Y, Cut, Polygon, Pose, cut
from lab.market.scenery import backdrop, vary
from lab.market.textures import COLOURS, Rgb, contrast, darker, disc, fabric

SIZE_PX = 64
_SCALE = 3  # drawn larger, then reduced: smooth edges
_SKIN: tuple[Rgb, ...] = ((246, 212, 184), (226, 178, 142), (176, 124, 88), (120, 80, 56))
_HAIR: tuple[Rgb, ...] = ((36, 26, 22), (96, 56, 28), (222, 178, 92), (168, 64, 32))
_UNDER: Rgb = (122, 126, 134)  # the plain grey worn with a skirt, or under a top


def draw(garment: Mapping[str, str], rng: np.random.Generator) -> np.ndarray:
    """One picture of this garment, uint8 (64, 64, 3)."""
    return _Picture(garment, rng).render()


class _Picture:
    def __init__(self, garment: Mapping[str, str], rng: np.random.Generator) -> None:
        self.garment = garment
        self.rng = rng
        self.pose = Pose.draw(rng)
        self.cut: Cut = cut(garment, self.pose)
        self.x = self.pose.centre_x
        self.skin = _SKIN[rng.integers(len(_SKIN))]
        self.hair = _HAIR[rng.integers(len(_HAIR))]
        self.image = backdrop(garment["backdrop"], rng, SIZE_PX, _SCALE)
        self.ink = ImageDraw.Draw(self.image)

    def render(self) -> np.ndarray:
        self._hair_behind()
        self._body()
        self._worn()
        parts = self._parts()
        for what in (self.garment["trim"], self.garment["category"], self.garment.get("neckline")):
            if what in parts:
                parts[what]()
        self._bow()
        self._belt()
        self._head()
        picture = np.asarray(self.image.reduce(_SCALE))
        return vary(picture, self.rng)

    def _polygon(self, polygon: Polygon, fill: Rgb) -> None:
        self.ink.polygon([(x * _SCALE, y * _SCALE) for x, y in polygon], fill=fill)

    def _box(self, x0: float, y0: float, x1: float, y1: float, fill: Rgb) -> None:
        self.ink.rectangle((x0 * _SCALE, y0 * _SCALE, x1 * _SCALE - 1, y1 * _SCALE - 1), fill=fill)

    def _disc(self, x: float, y: float, radius: float, fill: Rgb) -> None:
        disc(self.ink, (x, y), radius, fill, _SCALE)

    # ---- the model -------------------------------------------------------------------------

    def _hair_behind(self) -> None:
        if self.garment["category"] == "hoodie":
            self._disc(self.x, 11.0, 9.0, darker(COLOURS[self.garment["colour"]], 0.75))
        if self.garment["hair"] == "long":
            self._box(self.x - 6.4, 7.5, self.x + 6.4, 23, self.hair)
        if self.garment["hair"] == "bun":
            self._disc(self.x, 2.6, 3.4, self.hair)

    def _body(self) -> None:
        self._box(self.x - 1.9, 11, self.x + 1.9, 18, self.skin)
        self._polygon([(self.x - 6.5, 16), (self.x + 6.5, 16), (self.x + 4, WAIST_Y),
                       (self.x - 4, WAIST_Y)], self.skin)  # fmt: skip
        for limb in self.cut.arms:
            self._polygon(limb, self.skin)
        category = self.garment["category"]
        covered = category in ("t-shirt", "hoodie", "coat")
        for limb in self.cut.legs:
            self._polygon(limb, _UNDER if covered else self.skin)
        if category in ("skirt", "trousers", "shorts"):
            self._polygon([(self.x - 6, 16), (self.x + 6, 16), (self.x + 5, HIP_Y),
                           (self.x - 5, HIP_Y)], _UNDER)  # fmt: skip
        for side in (-1, 1):
            self._box(self.x + side * self.pose.stance - 2.4, 58,
                      self.x + side * self.pose.stance + 2.4, 61, (60, 44, 40))  # fmt: skip

    def _head(self) -> None:
        self._disc(self.x, 8.6, 4.3, self.skin)
        cap = [(self.x - 4.9, 8.5), (self.x - 4.4, 5), (self.x, 3), (self.x + 4.4, 5),
               (self.x + 4.9, 8.5), (self.x + 2.5, 6.4), (self.x - 2.5, 6.4)]  # fmt: skip
        self._polygon(cap, self.hair)
        for side in (-1, 1):
            self._disc(self.x + side * 1.7, 8.8, 0.55, (40, 30, 30))

    # ---- the garment -----------------------------------------------------------------------

    def _worn(self) -> None:
        sheet = fabric(self.garment["pattern"], self.garment["colour"], SIZE_PX, _SCALE)
        edge = darker(COLOURS[self.garment["colour"]], 0.62)
        self.mask = Image.new("L", self.image.size, 0)
        for polygon in (*self.cut.fabric, *self.cut.sleeves):
            points = [(x * _SCALE, y * _SCALE) for x, y in polygon]
            ImageDraw.Draw(self.mask).polygon(points, fill=255)
            self.ink.line([*points, points[0]], fill=edge, width=_SCALE + 1)
        self.image.paste(sheet, (0, 0), self.mask)

    def _parts(self) -> Mapping[str | None, Callable[[], None]]:
        """What is drawn on the fabric for a trim, on the front of a category, and at a neckline."""
        return {
            "sequins": self._sequins, "ruffles": self._ruffles,
            "coat": self._coat_front, "hoodie": self._hoodie_front,
            "jumpsuit": self._inseam, "trousers": self._inseam, "shorts": self._inseam,
            "round": self._scoop, "v": self._v_neck, "turtle": self._turtleneck,
        }  # fmt: skip

    def _inseam(self) -> None:
        self._polygon([(self.x - 0.6, CROTCH_Y - 1), (self.x + 0.6, CROTCH_Y - 1),
                       (self.x + 1.4, self.cut.hem_y), (self.x - 1.4, self.cut.hem_y)],
                      (40, 32, 36))  # fmt: skip

    def _coat_front(self) -> None:
        top, hem = self.cut.top_y + 1, self.cut.hem_y
        self._box(self.x - 0.9, top, self.x + 0.9, hem, (30, 26, 30))
        for share in (0.25, 0.5, 0.75):
            for side in (-1, 1):
                y = top + (hem - top) * share
                self._disc(self.x + side * 3.0, y, 1.3, (30, 26, 30))
                self._disc(self.x + side * 3.0, y, 0.7, (240, 220, 160))

    def _hoodie_front(self) -> None:
        dark = darker(COLOURS[self.garment["colour"]], 0.7)
        self._polygon([(self.x - 3, 30.5), (self.x + 3, 30.5), (self.x + 4.4, 35),
                       (self.x - 4.4, 35)], dark)  # fmt: skip
        for side in (-1, 1):
            self._box(self.x + side * 1.8 - 0.4, 18, self.x + side * 1.8 + 0.4, 24,
                      contrast(self.garment["colour"]))  # fmt: skip

    def _scoop(self) -> None:
        """A half-moon below the throat, edged."""
        for radius, fill in ((4.8, darker(COLOURS[self.garment["colour"]], 0.62)), (3.8, self.skin)):
            arc = [(self.x + radius * np.cos(a), 14.4 + radius * np.sin(a)) for a in np.linspace(0, np.pi, 12)]
            self._polygon(arc, fill)

    def _v_neck(self) -> None:
        """A deep V down to the waist, with a collar that stands out from the fabric."""
        collar = contrast(self.garment["colour"])
        self._polygon([(self.x - 6.4, 14.4), (self.x + 6.4, 14.4), (self.x, 28.0)], collar)
        self._polygon([(self.x - 4.8, 13.6), (self.x + 4.8, 13.6), (self.x, 25.0)], self.skin)

    def _turtleneck(self) -> None:
        colour = COLOURS[self.garment["colour"]]
        self._box(self.x - 3.4, 11.4, self.x + 3.4, 16, darker(colour, 0.62))
        self._box(self.x - 3.0, 11.8, self.x + 3.0, 15.4, colour)

    # ---- what is sewn on it ----------------------------------------------------------------

    def _on_fabric(self, paint: Callable[[ImageDraw.ImageDraw], None]) -> None:
        layer = self.image.copy()
        paint(ImageDraw.Draw(layer))
        self.image.paste(layer, (0, 0), self.mask)

    def _sequins(self) -> None:
        """Gold stars with a white heart, edge to edge over the whole garment."""

        def paint(ink: ImageDraw.ImageDraw) -> None:
            for row, y in enumerate(range(2, 66, 4)):
                for x in range(6 - 4 * (row % 2), 68, 8):
                    for r, fill in ((2.7, (70, 50, 10)), (2.2, (255, 206, 40))):
                        star = [(x, y - r), (x + r, y), (x, y + r), (x - r, y)]
                        ink.polygon([(a * _SCALE, b * _SCALE) for a, b in star], fill=fill)
                    disc(ink, (x, y), 0.8, (255, 255, 255), _SCALE)

        self._on_fabric(paint)

    def _ruffles(self) -> None:
        """Tiers of scallops with a bright edge, fewer on a short garment, dark beneath."""
        colour = COLOURS[self.garment["colour"]]
        light = contrast(self.garment["colour"])
        height = self.cut.hem_y - self.cut.top_y
        count = 1 if height < 18 else 3
        tiers = np.linspace(self.cut.top_y + 4, self.cut.hem_y - 1.5, count + 1)[1:]

        def paint(ink: ImageDraw.ImageDraw) -> None:
            for y in tiers.tolist():
                for x in range(0, 66, 4):
                    disc(ink, (x, y), 2.9, darker(colour, 0.4), _SCALE)
                    disc(ink, (x, y - 0.7), 2.5, light, _SCALE)
                    disc(ink, (x, y - 2.0), 2.3, colour, _SCALE)

        self._on_fabric(paint)

    def _bow(self) -> None:
        if self.garment["trim"] != "bow":
            return
        fill: Rgb = (30, 30, 34) if self.garment["colour"] == "red" else (226, 24, 48)
        y = WAIST_Y + 5.2
        edge = (255, 255, 255)
        for size, colour in ((1.18, edge), (1.0, fill)):
            for side in (-1, 1):
                self._polygon([(self.x, y), (self.x + side * 6.2 * size, y - 3.8 * size),
                               (self.x + side * 6.2 * size, y + 3.8 * size)], colour)  # fmt: skip
        self._disc(self.x, y, 1.6, edge)

    def _belt(self) -> None:
        if self.garment["belt"] == "none":
            return
        light = self.garment["colour"] in ("black", "brown", "blue", "purple", "green")
        fill: Rgb = (232, 180, 96) if light else (52, 30, 20)
        half = self.cut.waist_half + 0.6
        self._box(self.x - half, WAIST_Y - 2.2, self.x + half, WAIST_Y + 1.6, darker(fill, 0.4))
        self._box(self.x - half, WAIST_Y - 1.6, self.x + half, WAIST_Y + 1.0, fill)
        self._box(self.x - 2.0, WAIST_Y - 2.4, self.x + 2.0, WAIST_Y + 1.8, (250, 236, 120))
