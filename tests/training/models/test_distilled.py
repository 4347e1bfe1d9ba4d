"""What a distilled U-Net reads in the place of guidance, and the file beside it."""

from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from training.common.errors import WeightsError
from training.common.storage import fingerprint
from training.models.distilled import Distilled, check_undistilled

DISTILLED = Distilled(guidance_scale=4.0, teacher="a", unet="b")


def drawn(seed: int) -> torch.Tensor:
    return torch.randn(2, 77, 12, generator=torch.Generator().manual_seed(seed))


def test_a_prompt_is_read_as_it_is_at_the_scale_it_was_distilled_at() -> None:
    text, no_text = drawn(0), drawn(1)[:1]
    torch.testing.assert_close(DISTILLED.text(text, no_text, no_text, 4.0), text)


@pytest.mark.parametrize("guidance", [0.0, 1.0, 4.0, 7.5])
def test_where_noise_is_linear_in_the_text_it_is_guided_whatever_the_scale_and_the_negative_prompt(
    guidance: float,
) -> None:
    text, negative, no_text = drawn(0), drawn(1), drawn(2)[:1]
    weights = torch.randn(12, 12, generator=torch.Generator().manual_seed(3))

    def distilled(read: torch.Tensor) -> torch.Tensor:  # what its teacher's guided noise is without a negative prompt
        return (no_text + 4.0 * (read - no_text)) @ weights

    wanted = negative @ weights + guidance * (text @ weights - negative @ weights)
    g = torch.full((2, 1, 1), guidance)
    torch.testing.assert_close(distilled(DISTILLED.text(text, negative, no_text, g)), wanted, atol=1e-4, rtol=1e-4)


def test_the_file_says_what_was_written(tmp_path: Path) -> None:
    assert Distilled.of(tmp_path) is None
    check_undistilled(tmp_path)
    DISTILLED.write(tmp_path)
    assert Distilled.of(tmp_path) == DISTILLED
    with pytest.raises(WeightsError, match="is distilled .* take the U-Net that it was distilled from"):
        check_undistilled(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"guidance_scale": 4}'])
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "distilled.json").write_text(text)
    with pytest.raises(WeightsError, match="distilled.json"):
        Distilled.of(tmp_path)


def test_another_unet_beside_the_file_is_refused(unet: UNet2DConditionModel, tmp_path: Path) -> None:
    Distilled(4.0, "a", fingerprint(unet)).check(unet, tmp_path)
    with pytest.raises(WeightsError, match="was written for another U-Net .* remove the file"):
        DISTILLED.check(unet, tmp_path)
