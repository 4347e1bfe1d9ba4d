"""The tensor contract of one model: config.pbtxt, and checking an ONNX graph against it.

Knows names, types and shapes; nothing of what a model computes.
"""

from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from training.exporting.errors import ContractError

ONNX_TYPES = {
    "FP32": onnx.TensorProto.FLOAT,
    "INT64": onnx.TensorProto.INT64,
    "UINT8": onnx.TensorProto.UINT8,
}
NUMPY_TYPES = {"float32": "FP32", "int64": "INT64", "uint8": "UINT8"}
REMEDY = (  # for a family that does not fit
    "write the contract of its sizes into a repository of its own: python -m training.exporting.write_contracts "
    "--weights FAMILY --out REPOSITORY"
)


@dataclass(frozen=True)
class TensorSpec:
    """One input or output, without its batch dimension."""

    name: str
    dtype: str  # FP32, INT64 or UINT8
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}[{','.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class Contract:
    """A model's inputs, outputs and batch size by config.pbtxt."""

    name: str
    max_batch_size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def shape(self, tensor: str) -> tuple[int, ...]:
        return next(spec.shape for spec in (*self.inputs, *self.outputs) if spec.name == tensor)


def read_contract(repository: Path, model: str) -> Contract:
    path = repository / model / "config.pbtxt"
    if not path.is_file():
        raise ContractError(f"{path} is missing; {REMEDY}")
    try:
        config = text_format.Parse(path.read_text(), model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        raise ContractError(f"{path}: {error}") from error
    if config.name != model or config.max_batch_size < 1:
        raise ContractError(f"{path}: name must be {model!r} and max_batch_size at least 1")
    inputs, outputs = _specs(config.input), _specs(config.output)
    return Contract(model, config.max_batch_size, inputs, outputs)


def _specs(entries: object) -> tuple[TensorSpec, ...]:
    name_of = model_config_pb2.DataType.Name
    return tuple(
        TensorSpec(entry.name, name_of(entry.data_type).removeprefix("TYPE_"), tuple(entry.dims))
        for entry in entries  # type: ignore[attr-defined]
    )


def check_graph(contract: Contract, graph: onnx.GraphProto) -> None:
    """Refuses a graph that Triton would refuse or whose names, types or shapes differ from the contract."""
    stored = {tensor.name for tensor in graph.initializer}
    for side, wanted, values in (
        ("inputs", contract.inputs, [v for v in graph.input if v.name not in stored]),
        ("outputs", contract.outputs, list(graph.output)),
    ):
        found = [_spec_of(contract.name, value) for value in values]
        if found != list(wanted):
            raise ContractError(
                f"{contract.name}: the graph's {side} are {'; '.join(map(str, found))}, "
                f"config.pbtxt says {'; '.join(map(str, wanted))}; {REMEDY}"
            )


def _spec_of(model: str, value: onnx.ValueInfoProto) -> TensorSpec:
    tensor = value.type.tensor_type
    batch, *dims = tensor.shape.dim
    if batch.HasField("dim_value"):
        raise ContractError(f"{model}: the batch dimension of {value.name} is fixed at {batch.dim_value}")
    dynamic = [d.dim_param for d in dims if not d.HasField("dim_value")]
    if dynamic:
        raise ContractError(f"{model}: {value.name} has unknown dimensions {dynamic}")
    names = {number: name for name, number in ONNX_TYPES.items()}
    dtype = names.get(tensor.elem_type, onnx.TensorProto.DataType.Name(tensor.elem_type))
    return TensorSpec(value.name, dtype, tuple(d.dim_value for d in dims))
