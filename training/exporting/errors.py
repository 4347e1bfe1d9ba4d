"""Why an export refuses, as exceptions.

ExportError
├── ContractError     the graph's names, types or shapes are not those of config.pbtxt
└── NumericalError    ONNX Runtime's numbers are not torch's
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from contract.errors import InputError


class ExportError(InputError):
    """Base class of every deliberate refusal of the export."""


class ContractError(ExportError):
    """The graph does not fit the tensor contract."""


class NumericalError(ExportError):
    """The graph's results differ from the torch module's."""


@contextmanager
def made_of(files: Iterable[Path]) -> Iterator[None]:
    """Adds to a refusal the files that the model was made of."""
    try:
        yield
    except ExportError as error:
        raise type(error)(f"{error} (made of {', '.join(map(str, files))})") from error
