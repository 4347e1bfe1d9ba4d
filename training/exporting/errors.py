"""Why an export refuses, as exceptions.

ExportError
├── ContractError     the graph's names, types or shapes are not those of config.pbtxt
└── NumericalError    ONNX Runtime's numbers are not torch's
"""

from contract.errors import InputError


class ExportError(InputError):
    """Base class of every deliberate refusal of the export."""


class ContractError(ExportError):
    """The graph does not fit the tensor contract."""


class NumericalError(ExportError):
    """The graph's results differ from the torch module's."""
