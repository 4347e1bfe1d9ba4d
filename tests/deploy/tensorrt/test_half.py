"""Graphs in mixed float16 have the contract's inputs and outputs, and compute about the same; the rest stays exact."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from contract.release import Release
from contract.repository import Repository
from deploy.releases import model_config
from deploy.tensorrt.errors import GraphError
from deploy.tensorrt.half import HALF, KEPT, halved
from deploy.tensorrt.samples import Samples
from tests.deploy.tensorrt.conftest import MODELS

# Largest absolute differences that were measured on a CPU (docs/kubernetes.md), and room for other samples.
MEASURED = {
    "denoiser": 5e-2, "reward_image": 2e-3, "reward_text": 2e-3, "text_encoder": 2e-2, "user_encoder": 2e-2,
    "vae_decoder": 1.0, "vae_encoder": 1e-2,
}  # fmt: skip


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("model", MODELS)
def test_a_graph_in_float16_computes_about_the_same(
    model: str, repository: Repository, number: int, release: Release
) -> None:
    full = onnx.load(repository.model_dir(model, number) / "model.onnx")
    half = halved(full)
    onnx.checker.check_model(half)
    assert [*half.graph.input] == [*full.graph.input]
    assert [*half.graph.output] == [*full.graph.output]
    inputs = Samples(release, model_config.of_repository(repository.root, model)).draw(2)
    for wanted, found in zip(session(full).run(None, inputs), session(half).run(None, inputs), strict=True):
        assert found.dtype == wanted.dtype
        assert np.abs(found.astype(float) - wanted.astype(float)).max() <= MEASURED[model]


@pytest.mark.parametrize("model", MODELS)
def test_products_are_in_float16_and_norms_are_not(model: str, repository: Repository, number: int) -> None:
    half = halved(onnx.load(repository.model_dir(model, number) / "model.onnx"))
    graph = onnx.shape_inference.infer_shapes(half).graph
    types = {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
    given = {kind: set[int]() for node in graph.node for kind in [node.op_type]}
    for node in graph.node:
        given[node.op_type] |= {types[name] for name in node.output if name in types}
    assert given.get("MatMul", {HALF}) | given.get("Conv", {HALF}) == {HALF}
    assert all(HALF not in given[kind] for kind in KEPT - {"Cast"} if kind in given)


def test_a_weight_that_float16_cannot_hold_becomes_its_largest() -> None:
    weight = numpy_helper.from_array(np.array([[1e6, -1e6, 1.0, -np.inf]], np.float32), "w")
    model = halved(small([("Add", ["x", "w"], "a"), ("Tanh", ["a"], "b"), ("Tanh", ["b"], "y")], [weight]))
    [half] = model.graph.initializer
    assert numpy_helper.to_array(half).tolist() == [[65504.0, -65504.0, 1.0, -np.inf]]


def test_arithmetic_before_a_sine_stays_exact() -> None:
    """A timestep of 999 has half a radian of rounding in float16."""
    model = halved(small([("Mul", ["x", "x"], "a"), ("Sin", ["a"], "b"), ("Tanh", ["b"], "y")], []))
    x = np.array([[30.0, 31.6, 1.1, 2.3]], np.float32)
    [found] = session(model).run(None, {"x": x})
    assert np.abs(found - np.tanh(np.sin(x * x))).max() < 1e-3


def test_a_graph_within_a_graph_is_refused() -> None:
    inner = helper.make_graph([helper.make_node("Identity", ["x"], ["z"])], "inner", [], [tensor("z")])
    node = helper.make_node("If", ["c"], ["y"], name="choice", then_branch=inner, else_branch=inner)
    condition = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
    graph = helper.make_graph([node], "graph", [tensor("x"), condition], [tensor("y")])
    with pytest.raises(GraphError, match="choice"):
        halved(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]))


def tensor(name: str) -> Any:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4])


def small(nodes: list[tuple[str, list[str], str]], weights: list[onnx.TensorProto]) -> onnx.ModelProto:
    made = [helper.make_node(kind, inputs, [output]) for kind, inputs, output in nodes]
    graph = helper.make_graph(made, "graph", [tensor("x")], [tensor("y")], weights)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
