"""The demonstration's parts that need no cluster: the sheet's rows, and a prompt the market cannot judge."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deploy.demo import sheet
from deploy.demo.case_study import PROMPT
from deploy.demo.judge import Judge
from lab.market.prompts import parse


def test_the_market_understands_every_phrase_of_the_case_study() -> None:
    assert len(parse(PROMPT)) == len(PROMPT.split(","))


def test_a_prompt_with_a_phrase_the_market_does_not_know_is_refused() -> None:
    with pytest.raises(ValueError, match="spaceship"):
        Judge.load(Path("unused"), "dress,spaceship")


def test_a_sheet_holds_every_row_and_frames_what_was_picked(tmp_path: Path) -> None:
    pictures = np.full((2, 64, 64, 3), 200, np.uint8)
    rows = [sheet.Row(f"row {n}", "a subtitle", pictures, ["one", "two"], frozenset({1})) for n in range(3)]
    sheet.draw("title", rows, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        drawn = np.asarray(image)
    side = 64 * sheet.ENLARGE
    assert drawn.shape[0] > 3 * side
    assert drawn.shape[1] > sheet.LABEL_PX + 2 * side
    frame = np.array([int(sheet.PICKED[i : i + 2], 16) for i in (1, 3, 5)])
    columns = np.flatnonzero((drawn == frame).all(axis=2).any(axis=0))
    assert columns.min() >= sheet.LABEL_PX + side  # only the second picture of each row
