"""Why an export refuses, as exceptions.

ExportError
├── ContractError     the graph's names, types or shapes are not those of config.pbtxt
└── NumericalError    ONNX Runtime's numbers are not torch's
"""

from contract.errors import InputError


class ExportError(InputError):
    """Base of everything the export refuses on purpose."""


class ContractError(ExportError):
    """The graph does not fit the tensor contract."""


class NumericalError(ExportError):
    """The graph computes something else than the torch module."""
