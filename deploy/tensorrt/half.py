"""An ONNX graph in float32 → the same graph with float16 inside: what a strongly typed network computes in.

TensorRT 11 takes every type from the graph. Inputs and outputs keep the contract's types. What adds up many numbers,
or must be exact, stays in float32: norms, softmax, and the arithmetic right before sines, roundings and outputs.
Knows ONNX; neither TensorRT nor what a model computes.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from deploy.tensorrt.errors import GraphError

GRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
FULL, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
LARGEST = float(np.finfo(np.float16).max)
# They sum over a whole row or picture, or their result is a range; the last three need exact arguments.
KEPT = frozenset(
    ("InstanceNormalization", "GroupNormalization", "LayerNormalization", "RMSNormalization", "Softmax", "LogSoftmax")
    + ("ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare", "Exp", "Log", "Pow", "Sqrt", "Reciprocal", "Range")
    + ("CumSum", "Cast", "Sin", "Cos", "Round")
)
EXACT = frozenset(("Sin", "Cos", "Round"))
POINTWISE = frozenset(("Add", "Sub", "Mul", "Div", "Clip", "Min", "Max"))
ANY = frozenset(("Shape", "Size"))  # of whatever type a value has


def halved(model: ModelProto) -> ModelProto:
    """The graph in mixed float16; the given one stays as it is.

    Raises:
        GraphError: the graph has a part that this cannot change.
    """
    inferred = onnx.shape_inference.infer_shapes(model)
    for node in model.graph.node:
        if any(
            attribute.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for attribute in node.attribute
        ):
            raise GraphError(f"node {node.name} ({node.op_type}) holds a graph of its own, which stays in float32")
    return _Halving(model, _types(inferred.graph)).result()


def _types(graph: GraphProto) -> dict[str, int]:
    """The element type of every value."""
    values = (*graph.input, *graph.output, *graph.value_info)
    return {value.name: value.type.tensor_type.elem_type for value in values} | {
        tensor.name: tensor.data_type for tensor in graph.initializer
    }


@dataclass
class _Halving:
    """One conversion: which nodes compute in which type, and the casts between them."""

    model: ModelProto
    types: dict[str, int]
    made: dict[str, int] = field(default_factory=dict)  # value → FULL or HALF, as its node gives it
    casts: dict[tuple[str, int], str] = field(default_factory=dict)
    nodes: list[NodeProto] = field(default_factory=list)
    weights: dict[str, TensorProto] = field(default_factory=dict)

    def result(self) -> ModelProto:
        graph = self.model.graph
        opset = next(each.version for each in self.model.opset_import if each.domain in ("", "ai.onnx"))
        self.stored = {tensor.name: tensor for tensor in graph.initializer}
        self.outputs = {value.name for value in graph.output}
        kept = _kept(graph)
        self.made = {value.name: FULL for value in graph.input if self.types.get(value.name) == FULL}
        for index, node in enumerate(graph.node):
            self._add(node, HALF if index not in kept else FULL, opset)
        found = ModelProto()
        found.CopyFrom(self.model)
        del found.graph.node[:], found.graph.initializer[:], found.graph.value_info[:]
        found.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in node.input}
        found.graph.initializer.extend(t for t in (*self.stored.values(), *self.weights.values()) if t.name in used)
        return found

    def _add(self, node: NodeProto, wanted: int, opset: int) -> None:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
        may = {name for name, types in _variables(schema).items() if "tensor(float16)" in types}
        changed = NodeProto()
        changed.CopyFrom(node)
        if node.op_type in ANY:
            self.nodes.append(changed)
            return
        if wanted == HALF and any(
            self.types.get(name) == FULL and variable not in may
            for name, variable in _with_variables(node.output, schema.outputs)
        ):
            wanted = FULL
        for index, (name, variable) in enumerate(_with_variables(node.input, schema.inputs)):
            if name and self.types.get(name) == FULL:
                changed.input[index] = self._as(name, wanted if variable in may else FULL)
        self.nodes.append(changed)
        for name in node.output:
            if self.types.get(name) == FULL:
                self.made[name] = wanted

    def _as(self, name: str, wanted: int) -> str:
        """The name of a value in that type; makes it where there is none yet."""
        if name in self.stored:
            return name if wanted == FULL else self._half_weight(name)
        if self.made[name] == wanted:
            return name
        if (name, wanted) not in self.casts:
            cast = f"{name}/{'half' if wanted == HALF else 'full'}"
            self.nodes.append(helper.make_node("Cast", [name], [cast], name=cast, to=wanted))
            self.casts[name, wanted] = cast
        return self.casts[name, wanted]

    def _half_weight(self, name: str) -> str:
        half = f"{name}/half"
        if half not in self.weights:
            values = numpy_helper.to_array(self.stored[name])
            with np.errstate(over="ignore"):
                clipped = np.where(np.isfinite(values), values.clip(-LARGEST, LARGEST), values)
            self.weights[half] = numpy_helper.from_array(clipped.astype(np.float16), half)
        return half


def _kept(graph: GraphProto) -> set[int]:
    """The nodes that stay in float32: those of KEPT, and the arithmetic right before what is exact and the outputs."""
    maker = {name: index for index, node in enumerate(graph.node) for name in node.output}
    kept = {index for index, node in enumerate(graph.node) if node.op_type in KEPT}
    outputs = {value.name for value in graph.output}
    exact = [index for index, node in enumerate(graph.node) if node.op_type in EXACT or outputs & {*node.output}]
    kept |= {index for index in exact if outputs & {*graph.node[index].output}}
    while exact:
        for name in graph.node[exact.pop()].input:
            before = maker.get(name)
            if before is not None and before not in kept and graph.node[before].op_type in POINTWISE:
                kept.add(before)
                exact.append(before)
    return kept


def _variables(schema: onnx.defs.OpSchema) -> dict[str, list[str]]:
    """The type variables of an operator: name → types that it may have."""
    return {each.type_param_str: list(each.allowed_type_strs) for each in schema.type_constraints}


def _with_variables(names: Iterable[str], formal: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Each name with its type variable; the last one of a schema may stand for many."""
    parameters = list(formal)
    for index, name in enumerate(names):
        yield name, parameters[min(index, len(parameters) - 1)].type_str


def counts(model: ModelProto) -> dict[str, int]:
    """How many nodes give float16 and how many casts there are: what a conversion has done."""
    found: dict[str, int] = defaultdict(int)
    types = _types(onnx.shape_inference.infer_shapes(model).graph)
    for node in model.graph.node:
        found["half"] += any(types.get(name) == HALF for name in node.output)
        found["casts"] += node.op_type == "Cast"
    return dict(found)
