"""A picture's file: PNG bytes, and the name that its content gives it. Pure functions."""

import hashlib
import io

from numpy import uint8
from numpy.typing import NDArray
from PIL import Image


def encode_png(image: NDArray[uint8]) -> bytes:
    """PNG bytes of a picture  # (H, W, 3)"""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def object_name(png: bytes) -> str:
    """Where a picture lies in the object store: its SHA-256, spread over 256 folders."""
    digest = hashlib.sha256(png).hexdigest()
    return f"{digest[:2]}/{digest}.png"
