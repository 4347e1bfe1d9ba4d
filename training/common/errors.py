"""The exceptions for a model's inputs and files, below the contract's base class.

contract.errors.InputError
└── ModelError
    ├── TopologyError    a U-Net or CLIP of a shape this method does not fit
    └── WeightsError     saved weights that do not belong to the model or schema at hand

Diverged stands beside them: the input was right, the training went wrong.
"""

import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile

from safetensors import SafetensorError

from contract.errors import InputError


class ModelError(InputError):
    """Base class of every deliberate refusal in this half."""


class TopologyError(ModelError):
    """The backbone lacks the blocks that the method attaches to."""


class WeightsError(ModelError):
    """Saved weights do not fit: a tensor is missing or superfluous, or the shape or schema is another."""


class Diverged(RuntimeError):
    """The loss is not a finite number, or grew too much; the last checkpoint is from before."""


_BROKEN = (OSError, ValueError, TypeError, KeyError, RuntimeError, EOFError)  # what libraries make of a damaged file
_BROKEN_ARCHIVE = (SafetensorError, pickle.UnpicklingError, BadZipFile)


@contextmanager
def reading(path: Path, error: type[InputError] = WeightsError) -> Iterator[None]:
    """Turns an error while this file or directory is read into one line that names it; our own errors pass."""
    try:
        yield
    except InputError:
        raise
    except (*_BROKEN, *_BROKEN_ARCHIVE) as broken:
        why = next(iter(str(broken).splitlines()), "") or type(broken).__name__
        why = f"{why} is missing" if isinstance(broken, KeyError) else why
        raise error(f"{path} cannot be read: {why}") from broken
