"""CLIP's preprocessing: Pillow's resizing to the rounding, the centre, the normalisation."""

import numpy as np
import pytest
import torch
from PIL import Image

from training.models.preprocess import Preprocess, resize


@pytest.mark.parametrize("sides", [(48, 40), (20, 24), (100, 100), (96, 128)])
def test_resizing_is_pillows_to_the_rounding(sides: tuple[int, int]) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*sides, 3)).astype(np.uint8)
    expected = np.asarray(Image.fromarray(picture).resize((31, 32), Image.Resampling.BICUBIC), dtype=np.int64)
    found = resize(torch.from_numpy(picture).permute(2, 0, 1)[None].float(), 32, 31)[0].permute(1, 2, 0)
    assert np.abs(found.numpy() - expected).max() <= 1  # Pillow rounds between its two passes


@pytest.mark.parametrize("side", [32, 48])
def test_it_resizes_crops_and_normalises(side: int) -> None:
    module = Preprocess({"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.2]}, 32)
    image = torch.full((1, side, side + 16, 3), 102, dtype=torch.uint8)  # 0.4
    image[:, :, :2] = 0  # at the edge, cropped away
    pixels = module(image)
    assert pixels.shape == (1, 3, 32, 32)
    torch.testing.assert_close(pixels[0, :, 5, 16], torch.tensor([-0.5, 0.0, 0.5]), atol=1e-5, rtol=0)
