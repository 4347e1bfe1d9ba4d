"""What can be wrong with a model's inputs or files, as exceptions below the contract's base.

contract.errors.InputError
└── ModelError
    ├── TopologyError    a U-Net or CLIP of a shape this method does not fit
    └── WeightsError     saved weights that do not belong to the model or schema at hand
"""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile

from safetensors import SafetensorError

from contract.errors import InputError


class ModelError(InputError):
    """Base of everything that this half refuses on purpose."""


class TopologyError(ModelError):
    """A backbone whose blocks are not those the method attaches to."""


class WeightsError(ModelError):
    """Saved weights that do not fit: missing, superfluous or of another shape or schema."""


_BROKEN = (OSError, ValueError, TypeError, KeyError, RuntimeError, EOFError)  # what libraries make of a damaged file
_BROKEN_ARCHIVE = (SafetensorError, pickle.UnpicklingError, BadZipFile)


@contextmanager
def reading(path: Path, error: type[InputError] = WeightsError) -> Iterator[None]:
    """What goes wrong while this file or directory is read becomes one line that names it; our own errors pass."""
    try:
        yield
    except InputError:
        raise
    except (*_BROKEN, *_BROKEN_ARCHIVE) as broken:
        why = next(iter(str(broken).splitlines()), "") or type(broken).__name__
        raise error(f"{path} cannot be read: {why}") from broken
