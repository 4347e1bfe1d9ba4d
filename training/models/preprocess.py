"""CLIP's image preprocessing as a module, so that training and the exported graph share it.

Reads a transformers preprocessor_config.json; knows nothing about models. Resizing is two matrix
products, Pillow's bicubic filter as a matrix, because exporters have no antialiased resize.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


class Preprocess(nn.Module):
    """Resize the shorter side, crop the centre, rescale, normalise."""

    def __init__(self, config: dict[str, Any], size_px: int) -> None:
        super().__init__()
        self.settings = (size_px, config)
        self.size_px, self.factor = size_px, config.get("rescale_factor", 1 / 255)
        self.register_buffer("mean", torch.tensor(config["image_mean"]).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(config["image_std"]).view(3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:  # (B, H, W, 3) uint8 -> (B, 3, size, size)
        return self._cut(image.float().permute(0, 3, 1, 2), resize)  # TensorRT takes bytes for casts alone

    def of_exact(self, pixels: Tensor) -> Tensor:
        """The same of pixels (B, 3, H, W) from 0 to 255 that are not rounded, with a gradient to them."""
        return self._cut(pixels, resize_exact)

    def _cut(self, pixels: Tensor, resize: Callable[[Tensor, int, int], Tensor]) -> Tensor:
        height, width = pixels.shape[2:]
        if min(height, width) != self.size_px:
            ratio = self.size_px / min(height, width)
            pixels = resize(pixels, round(height * ratio), round(width * ratio))
        top, left = ((side - self.size_px) // 2 for side in pixels.shape[2:])
        pixels = pixels[:, :, top : top + self.size_px, left : left + self.size_px]
        return (pixels * self.factor - self.mean) / self.std


def resize(pixels: Tensor, height: int, width: int) -> Tensor:
    """(B, 3, H, W) → (B, 3, height, width); 8-bit values after each of the two passes, as in Pillow.

    Across first, which is Pillow's order for pictures about as wide as high; for very tall ones it may choose the
    other, which differs only where a pass overshoots 0 or 255.
    """
    rows, columns = _bicubic(pixels, height, width)
    across = (pixels @ columns.T).round().clamp(0, 255)  # (B, 3, H, width)
    return (rows @ across).round().clamp(0, 255)


def resize_exact(pixels: Tensor, height: int, width: int) -> Tensor:
    """As `resize` without rounding: what a gradient can pass."""
    rows, columns = _bicubic(pixels, height, width)
    return (rows @ (pixels @ columns.T)).clamp(0, 255)


def _bicubic(pixels: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """For the rows (height, H), and for the columns (width, W)."""
    rows = torch.tensor(bicubic_matrix(pixels.shape[2], height), device=pixels.device)
    return rows, torch.tensor(bicubic_matrix(pixels.shape[3], width), device=pixels.device)


@lru_cache(maxsize=8)
def bicubic_matrix(n_in: int, n_out: int) -> np.ndarray:
    """Pillow's bicubic filter (a = −½, widened when shrinking) as a matrix (n_out, n_in), float32."""
    scale = n_in / n_out
    widening = max(scale, 1.0)
    centres = (np.arange(n_out)[:, None] + 0.5) * scale  # (n_out, 1)
    x = np.abs(np.arange(n_in)[None, :] + 0.5 - centres) / widening  # (n_out, n_in)
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)
