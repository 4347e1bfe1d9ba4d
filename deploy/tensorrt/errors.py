"""Why there is no plan, as exceptions.

TensorRTError
├── GraphError    the graph cannot be converted, or TensorRT's parser refuses it
├── BuildError    TensorRT builds or loads no engine
└── WrongError    the engine's numbers are not ONNX Runtime's
"""

from contract.errors import InputError


class TensorRTError(InputError):
    """Base class: the model is served by ONNX Runtime."""


class GraphError(TensorRTError):
    """A graph that cannot be converted or parsed."""


class BuildError(TensorRTError):
    """No engine."""


class WrongError(TensorRTError):
    """Another result than ONNX Runtime's."""
