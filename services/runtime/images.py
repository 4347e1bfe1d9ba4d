"""Decodes clients' pictures beside the calls that need none.

contract/pictures.py knows how a picture is read. This module knows how many are decoded at once, in threads of their
own. Does not know requests, users, or the models.

A picture's size is read from its headers before any pixel is decoded. A large picture, which may take 100 to 200 MB and
more than a second, waits for one of few places; a small one never waits for a large one.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from contract.picture_files import PictureRefused as ImageRefused
from contract.pictures import LARGE_PIXELS, opened, square
from contract.pictures import PictureLimits as ImageLimits

__all__ = ["Decoder", "ImageLimits", "ImageRefused", "decode_image"]

_LARGE_AT_ONCE = 2
_SMALL_AT_ONCE = 4


def decode_image(data: bytes, size_px: int, limits: ImageLimits) -> NDArray[np.uint8]:
    """The picture fitted to size_px × size_px  # (H, W, 3); ImageRefused if it cannot be."""
    return square(opened(data, limits), size_px)


class Decoder:
    """Decodes within limits, a bounded number of pictures at once."""

    def __init__(self, limits: ImageLimits) -> None:
        self.limits = limits
        self._large = ThreadPoolExecutor(_LARGE_AT_ONCE, thread_name_prefix="large-pictures")
        self._small = ThreadPoolExecutor(_SMALL_AT_ONCE, thread_name_prefix="pictures")

    async def decode(self, data: bytes, size_px: int) -> NDArray[np.uint8]:
        """As decode_image. A call that is cancelled while it waits for its turn decodes nothing."""
        loop = asyncio.get_running_loop()
        file = await loop.run_in_executor(self._small, opened, data, self.limits)
        threads = self._large if file.pixels >= LARGE_PIXELS else self._small
        return await loop.run_in_executor(threads, square, file, size_px)

    async def close(self) -> None:
        """Lets the threads end; what waits for its turn is not decoded."""
        for threads in (self._large, self._small):
            threads.shutdown(wait=False, cancel_futures=True)
