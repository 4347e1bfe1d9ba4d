"""Pictures as raters see them: one size, sRGB, upright, whole, without a word of metadata, under names that say
nothing.

A picture is read as services read it (contract.pictures: ICC profile, EXIF orientation, transparency on white), fitted
whole into a white square, and written as a PNG of pixels alone. Knows files; neither methods nor raters.
"""

from pathlib import Path

from PIL import Image

from contract.picture_files import PictureRefused
from contract.pictures import PictureLimits, opened, whole
from training.measurement.errors import MeasurementError

_LIMITS = PictureLimits(max_bytes=2**26, max_pixels=60_000_000)  # a camera's


def normalise(source: Path, target: Path, size_px: int) -> tuple[int, int]:
    """Writes `source` as raters see it; returns its own width and height in pixels.

    Raises:
        MeasurementError: it is no PNG or JPEG that can be read.
    """
    try:
        file = opened(source.read_bytes(), _LIMITS)
        Image.fromarray(whole(file, size_px)).save(target, "PNG")
    except (PictureRefused, OSError) as error:
        why = f"the picture {error}" if isinstance(error, PictureRefused) else (error.strerror or str(error))
        raise MeasurementError(f"{source}: {why}") from error
    return file.width, file.height
