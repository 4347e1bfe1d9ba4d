"""What TensorRT's ONNX parser supports by its published list, and what of a graph is not on it.

The list is operators.json, made from the parser's own docs/operators.md of the version that it names. Knows ONNX and
that list; the parser itself may still refuse a combination that the list does not speak of.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto

LIST = Path(__file__).with_name("operators.json")
NAMES: dict[int, str] = {
    TensorProto.FLOAT: "FP32", TensorProto.FLOAT16: "FP16", TensorProto.BFLOAT16: "BF16", TensorProto.INT32: "INT32",
    TensorProto.INT64: "INT64", TensorProto.UINT8: "UINT8", TensorProto.INT8: "INT8", TensorProto.BOOL: "BOOL",
    TensorProto.DOUBLE: "FP64",
}  # fmt: skip
# The list names the types of the data; of these inputs it does not speak: shapes, indices, conditions.
BESIDE = {
    "Reshape": {1}, "Expand": {1}, "Slice": {1, 2, 3, 4}, "Unsqueeze": {1}, "Squeeze": {1}, "Gather": {1},
    "GatherND": {1}, "GatherElements": {1}, "Pad": {1, 3}, "Split": {1}, "Resize": {1, 2, 3}, "Tile": {1},
    "ReduceL2": {1}, "ReduceSum": {1}, "ReduceMean": {1}, "ReduceMax": {1}, "Where": {0}, "CumSum": {1},
    "Shape": {0}, "Size": {0}, "ConstantOfShape": {0}, "TopK": {1}, "ScatterND": {1}, "OneHot": {1},
}  # fmt: skip


@dataclass(frozen=True)
class Supported:
    """The published list."""

    tensorrt: str  # version
    opsets: tuple[int, int]  # the first and the last one
    operators: dict[str, frozenset[str]]  # operator → types

    @classmethod
    def read(cls) -> "Supported":
        said = json.loads(LIST.read_text(encoding="utf-8"))
        first, last = said["opsets"]
        return cls(said["tensorrt"], (first, last), {name: frozenset(of) for name, of in said["operators"].items()})


def problems(model: ModelProto, supported: Supported) -> Iterator[str]:
    """What of a graph is not on the list: opset, operators, types of their data."""
    first, last = supported.opsets
    for opset in model.opset_import:
        if opset.domain not in ("", "ai.onnx"):
            yield f"operators of {opset.domain!r}"
        elif not first <= opset.version <= last:
            yield f"opset {opset.version}, not one from {first} to {last}"
    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.input, *graph.output, *graph.value_info)
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        of = supported.operators.get(node.op_type)
        if of is None:
            yield f"{node.op_type} ({node.name})"
            continue
        data = [name for place, name in enumerate(node.input) if place not in BESIDE.get(node.op_type, ())]
        for name in filter(None, data):
            if name not in types:
                yield f"{node.op_type} ({node.name}): the type of {name} is unknown"
            elif (found := NAMES.get(types[name], "a type of its own")) not in of:
                yield f"{node.op_type} ({node.name}) of {found}, not of {', '.join(sorted(of))}"
