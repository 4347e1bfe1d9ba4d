"""A picture's file: PNG bytes, the name that its content gives it, and what may have become of it. Pure functions."""

import hashlib
import io
import re
from enum import Enum

from numpy import uint8
from numpy.typing import NDArray
from PIL import Image

FOLDERS = tuple(f"{number:02x}" for number in range(256))  # that pictures are spread over
SCRATCH = ".scratch"  # the folder of what is being written
NAME_CHARACTERS = 71  # of a picture's name: folder, slash, digest, ending
_NAME = re.compile(r"(?P<folder>[0-9a-f]{2})/(?P=folder)[0-9a-f]{62}\.png")


class Loss(Enum):
    """Why a stored picture cannot be shown. The store answers; asking again gives the same."""

    MISSING = "the store has no object of its name"
    DAMAGED = "what lies under its name is another content, or cannot be read"


def encode_png(image: NDArray[uint8]) -> bytes:
    """PNG bytes of a picture  # (H, W, 3)"""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def object_name(png: bytes) -> str:
    """Where a picture lies in the object store: its SHA-256, spread over 256 folders."""
    digest = hashlib.sha256(png).hexdigest()
    return f"{digest[:2]}/{digest}.png"


def name_in(place: str) -> str:
    """The object's name at the end of a URI or path."""
    return "/".join(place.split("/")[-2:])


def is_object_name(name: str) -> bool:
    """Whether a name below the store's root is a picture's."""
    return _NAME.fullmatch(name) is not None
