"""NVIDIA's own ONNX parser and builder take every graph, by the code that builds plans, without a GPU.

TensorRT for RTX is not the TensorRT that Triton has (rtx.py says what differs), and no engine runs here.
"""

from pathlib import Path
from typing import Any

import onnx
import pytest

from contract.repository import Repository
from deploy.releases import model_config
from deploy.tensorrt import engine
from deploy.tensorrt.errors import BuildError, GraphError
from deploy.tensorrt.half import halved
from tests.deploy.tensorrt import rtx
from tests.deploy.tensorrt.conftest import MODELS
from tests.deploy.tensorrt.test_operators import graph_of

pytestmark = [
    pytest.mark.skipif(not rtx.is_here(), reason="make tensorrt-check fetches TensorRT for RTX, 150 MB"),
    pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning"),  # there alone
]


@pytest.fixture(scope="module")
def trt() -> Any:
    return rtx.library()


def parsed(trt: Any, graph: Path) -> Any:
    """The network of a graph."""
    logger = trt.Logger(trt.Logger.ERROR)
    network = trt.Builder(logger).create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    engine.parse(trt, network, logger, graph)
    return network


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("model", MODELS)
def test_the_parser_takes_a_graph(
    model: str, precision: str, repository: Repository, number: int, trt: Any, tmp_path: Path
) -> None:
    graph = repository.model_dir(model, number) / "model.onnx"
    if precision == "float16":
        onnx.save_model(halved(onnx.load(graph)), tmp_path / "model.onnx")
        graph = tmp_path / "model.onnx"
    network, config = parsed(trt, graph), model_config.of_repository(repository.root, model)
    for count, of, said in (
        (network.num_inputs, network.get_input, config.input),
        (network.num_outputs, network.get_output, config.output),
    ):
        found = {each.name: (trt.nptype(each.dtype), tuple(each.shape)) for each in map(of, range(count))}
        assert found == {each.name: (model_config.dtype_of(each), (-1, *each.dims)) for each in said}


def test_the_parser_says_what_it_refuses(trt: Any, tmp_path: Path) -> None:
    onnx.save_model(graph_of("Transpose", onnx.TensorProto.UINT8), tmp_path / "model.onnx")
    with pytest.raises(GraphError, match="Transpose"):
        parsed(trt, tmp_path / "model.onnx")


def for_ada(trt: Any) -> Any:
    """Has the builder build for a GPU that is not here."""

    def prepare(config: Any) -> None:
        config.num_compute_capabilities = 1
        assert config.set_compute_capability(trt.ComputeCapability.SM89, 0)

    return prepare


@pytest.mark.parametrize("tf32", [True, False])
def test_a_plan_is_built(tf32: bool, repository: Repository, number: int, trt: Any, tmp_path: Path) -> None:
    shapes = engine.ranges(model_config.of_repository(repository.root, "text_encoder"))
    onnx.save_model(
        halved(onnx.load(repository.model_dir("text_encoder", number) / "model.onnx")), tmp_path / "model.onnx"
    )
    built = engine.build(trt, tmp_path / "model.onnx", shapes, tf32=tf32, prepare=for_ada(trt))
    assert len(built.plan) > 100_000


def test_shapes_that_do_not_fit_the_graph_give_no_plan(repository: Repository, number: int, trt: Any) -> None:
    wrong = {"input_ids": engine.Range((1, 76), (5, 76), (32, 76))}
    with pytest.raises(BuildError, match="input_ids"):
        engine.build(
            trt, repository.model_dir("text_encoder", number) / "model.onnx", wrong, tf32=True, prepare=for_ada(trt)
        )
