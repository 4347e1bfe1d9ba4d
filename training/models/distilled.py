"""A distilled U-Net: its one pass predicts the guided noise for which its teacher needs two.

What guidance adds depends on the guidance scale and on the negative prompt. A distilled U-Net reads both in its text
states: if noise were linear in them, guidance g with the negative text n,

    ε(n) + g · (ε(c) − ε(n)) = ε(n + g · (c − n)),

would be noise without guidance for the text n + g · (c − n). With no negative prompt and the guidance scale that it was
distilled at, it reads the prompt's states as they are; for all others it learns what the moved states mean. Its folder
holds distilled.json, which says so. Knows texts and folders; not how a U-Net is distilled.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from diffusers import UNet2DConditionModel
from torch import Tensor

from training.common.errors import WeightsError, reading
from training.common.reports import write_report
from training.common.storage import fingerprint

DISTILLED_FILE = "distilled.json"


@dataclass(frozen=True)
class Distilled:
    """What distilled.json says beside a U-Net."""

    guidance_scale: float  # at which it reads prompts as they are
    teacher: str  # fingerprint of the U-Net that it was distilled from
    unet: str  # its own

    @classmethod
    def of(cls, directory: Path) -> "Distilled | None":
        """Of the U-Net in this directory; None: it is not distilled.

        Raises:
            WeightsError: the file cannot be read, or lacks a field.
        """
        path = directory / DISTILLED_FILE
        if not path.is_file():
            return None
        with reading(path):
            told = json.loads(path.read_text(encoding="utf-8"))
            return cls(float(told["guidance_scale"]), str(told["teacher"]), str(told["unet"]))

    def write(self, directory: Path) -> None:
        """Says it beside the U-Net."""
        write_report(directory / DISTILLED_FILE, asdict(self))

    def check(self, unet: UNet2DConditionModel, directory: Path) -> None:
        """Refuses another U-Net than it was written for, as when one is copied over a distilled one.

        Raises:
            WeightsError: names the file and the remedy.
        """
        if self.unet != (found := fingerprint(unet)):
            raise WeightsError(
                f"{directory / DISTILLED_FILE} was written for another U-Net ({self.unet}, this one is {found}): if "
                "this one is not distilled, remove the file"
            )

    def text(self, text: Tensor, negative_text: Tensor, no_text: Tensor, guidance: Tensor | float) -> Tensor:
        """What the U-Net reads in the place of guidance.

        Args:
            text, negative_text: (B, 77, D), or (1, 77, D) for all.
            no_text: of the empty prompt, (1, 77, D).
            guidance: one number, or one each, (B, 1, 1).
        """
        guided = negative_text + guidance * (text - negative_text)
        return no_text + (guided - no_text) / self.guidance_scale


def check_undistilled(directory: Path) -> None:
    """Refuses a distilled U-Net where one is needed whose noise is not guided.

    Raises:
        WeightsError: says what to take in its place.
    """
    if Distilled.of(directory) is not None:
        raise WeightsError(f"{directory} is distilled (its noise is guided): take the U-Net that it was distilled from")
