"""The contact sheet: labelled rows of pictures of equal seeds, so that each column differs by the merchant alone.

Knows pictures and captions; does not know their sources.
"""

from dataclasses import dataclass
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from deploy.demo.playing import Pictures

ENLARGE = 3
GAP_PX = 10
TITLE_PX = 64
CAPTION_PX = 40
LABEL_PX = 250
INK, FAINT, PAPER, PICKED = "#1d1d1f", "#6e6e73", "#ffffff", "#c2410c"


@dataclass(frozen=True)
class Row:
    """One row: `captions` has a line or two per picture; `picked` are framed."""

    title: str
    subtitle: str
    pictures: Pictures  # (N, H, W, 3)
    captions: list[str]
    picked: frozenset[int]


def draw(title: str, rows: list[Row], path: Path) -> None:
    side = rows[0].pictures.shape[1] * ENLARGE
    columns = max(len(row.pictures) for row in rows)
    row_height = side + CAPTION_PX + 2 * GAP_PX
    width = LABEL_PX + columns * (side + GAP_PX) + GAP_PX
    sheet = Image.new("RGB", (width, TITLE_PX + len(rows) * row_height), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((2 * GAP_PX, TITLE_PX // 2), title, INK, _font(24), anchor="lm")
    for place, row in enumerate(rows):
        _draw_row(sheet, pen, row, TITLE_PX + place * row_height, side)
    sheet.save(path)


def _draw_row(sheet: Image.Image, pen: ImageDraw.ImageDraw, row: Row, top: int, side: int) -> None:
    pen.text((2 * GAP_PX, top + side // 2), row.title, INK, _font(20), anchor="ld")
    pen.multiline_text((2 * GAP_PX, top + side // 2 + 8), row.subtitle, FAINT, _font(14), spacing=4)
    for column, pixels in enumerate(row.pictures):
        left = LABEL_PX + column * (side + GAP_PX)
        picture = Image.fromarray(pixels).resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(picture, (left, top))
        chosen = column in row.picked
        if chosen:
            pen.rectangle((left - 4, top - 4, left + side + 3, top + side + 3), outline=PICKED, width=4)
        caption = row.captions[column] + (" · picked" if chosen else "")
        pen.multiline_text(
            (left + side // 2, top + side + 8), caption, PICKED if chosen else FAINT, _font(13), "ma", align="center"
        )


def _font(size_px: int) -> ImageFont.FreeTypeFont:
    """Matplotlib's font, which has every script we need; a bare machine has no fonts."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")), size_px)
