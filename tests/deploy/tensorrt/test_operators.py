"""Every operator of the exported graphs, in float32 and in mixed float16, is on TensorRT's published list."""

import onnx
import pytest
from onnx import TensorProto, helper

from contract.repository import Repository
from deploy.tensorrt.half import halved
from deploy.tensorrt.operators import Supported, problems
from tests.deploy.tensorrt.conftest import MODELS

SUPPORTED = Supported.read()


@pytest.mark.parametrize("model", MODELS)
def test_a_graph_has_supported_operators_alone(model: str, repository: Repository, number: int) -> None:
    graph = onnx.load(repository.model_dir(model, number) / "model.onnx")
    assert list(problems(graph, SUPPORTED)) == []
    assert list(problems(halved(graph), SUPPORTED)) == []


def graph_of(operator: str, data: int, opset: int = 20) -> onnx.ModelProto:
    node = helper.make_node(operator, ["x"], ["y"], name="only")
    values = [helper.make_tensor_value_info(name, data, [1, 4]) for name in ("x", "y")]
    graph = helper.make_graph([node], "graph", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


@pytest.mark.parametrize(
    ("operator", "data", "says"),
    [
        ("Det", TensorProto.FLOAT, "Det"),
        ("Transpose", TensorProto.UINT8, "of UINT8"),
        ("Relu", TensorProto.DOUBLE, "of FP64"),
        ("Sin", TensorProto.INT64, "of INT64"),
    ],
)
def test_what_is_not_on_the_list_is_named(operator: str, data: int, says: str) -> None:
    [found] = problems(graph_of(operator, data), SUPPORTED)
    assert says in found
    assert "only" in found


def test_an_opset_beyond_the_list_is_named() -> None:
    assert list(problems(graph_of("Relu", TensorProto.FLOAT, SUPPORTED.opsets[1] + 1), SUPPORTED))
