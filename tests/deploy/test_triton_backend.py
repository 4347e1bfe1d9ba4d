"""The `onnxruntime` backend in a real Triton, on a hand-made model: batching, versions, failures, the contract."""

import dataclasses
import re
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
import tritonclient.grpc as triton
from onnx import TensorProto, helper
from tritonclient.utils import InferenceServerException

from deploy.local import triton_server
from deploy.local.layout import ROOT, Layout
from deploy.local.process import Process
from deploy.local.triton_server import client_of
from tests.deploy.k8s.policies.monitoring import TRITON
from tests.integration.client import wait_until
from tests.ports import free_offset

CONFIG = """\
name: "%(name)s"
backend: "onnxruntime"
max_batch_size: 32
dynamic_batching { max_queue_delay_microseconds: %(delay_us)d }
version_policy { latest { num_versions: 2 } }
input [ { name: "%(input)s" data_type: TYPE_FP32 dims: [ 3 ] }, { name: "row" data_type: TYPE_INT64 dims: [ 1 ] } ]
output [ { name: "scaled" data_type: TYPE_FP32 dims: [ 3 ] },
         { name: "looked_up" data_type: TYPE_FP32 dims: [ 1, 2 ] } ]
"""
TABLE = np.arange(6, dtype=np.float32).reshape(3, 2)


def write_model(repository: Path, name: str, version: int, factor: float, input_name: str = "x") -> None:
    """scaled = factor · x, and looked_up = TABLE[row], which fails for a row outside the table."""
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "factor"], ["scaled"]),
            helper.make_node("Gather", ["table", "row"], ["looked_up"], axis=0),
        ],
        "scale_and_look_up",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("row", TensorProto.INT64, ["batch", 1]),
        ],
        [
            helper.make_tensor_value_info("scaled", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("looked_up", TensorProto.FLOAT, ["batch", 1, 2]),
        ],
        [
            helper.make_tensor("factor", TensorProto.FLOAT, [], [factor]),
            helper.make_tensor("table", TensorProto.FLOAT, TABLE.shape, TABLE.ravel().tolist()),
        ],
    )
    folder = repository / name / str(version)
    folder.mkdir(parents=True)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), folder / "model.onnx"
    )
    delay_us = 50_000 if name == "patient" else 0
    (folder.parent / "config.pbtxt").write_text(CONFIG % {"name": name, "input": input_name, "delay_us": delay_us})


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    repository = tmp_path_factory.mktemp("repository")
    return dataclasses.replace(Layout("backend-test", free_offset()), model_repository=repository)


@pytest.fixture(scope="module")
def server(layout: Layout) -> Iterator[triton.InferenceServerClient]:
    repository = layout.model_repository
    for version, factor in ((1, 2.0), (2, 3.0)):
        write_model(repository, "quick", version, factor)
    write_model(repository, "patient", 1, 2.0)
    write_model(repository, "misnamed", 1, 2.0, input_name="something_else")
    process = Process("triton", repository / "pid", repository / "log")
    triton_server.prepare(layout)
    process.start(triton_server.command(layout), triton_server.environment(layout), ROOT)
    try:
        wait_until(lambda: triton_server.is_live(layout), 30.0)
        with client_of(layout) as client:
            client.load_model("quick")
            client.load_model("patient")
            yield client
    finally:
        process.stop(8.0)


def ask(
    client: triton.InferenceServerClient, model: str, x: np.ndarray, row: int = 1, version: int = 1
) -> triton.InferResult:
    rows = np.full((len(x), 1), row, np.int64)
    inputs = [triton.InferInput("x", list(x.shape), "FP32"), triton.InferInput("row", list(rows.shape), "INT64")]
    for tensor, values in zip(inputs, (x, rows), strict=True):
        tensor.set_data_from_numpy(values)
    return client.infer(model, inputs, str(version))


def batch(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, 3)).astype(np.float32)


@pytest.mark.parametrize("rows", [1, 5, 32])
def test_outputs_are_the_graphs(server: triton.InferenceServerClient, rows: int) -> None:
    x = batch(rows)
    result = ask(server, "quick", x, row=2)
    np.testing.assert_array_equal(result.as_numpy("scaled"), 2 * x)
    np.testing.assert_array_equal(result.as_numpy("looked_up"), np.broadcast_to(TABLE[2], (rows, 1, 2)))


def test_two_releases_answer_at_once_each_by_its_own_graph(server: triton.InferenceServerClient) -> None:
    x = batch(2)
    for version, factor in ((1, 2.0), (2, 3.0)):
        np.testing.assert_array_equal(ask(server, "quick", x, version=version).as_numpy("scaled"), factor * x)


def test_requests_batched_together_get_each_their_own_rows(server: triton.InferenceServerClient) -> None:
    batches = [batch(1 + n % 3, seed=n) for n in range(12)]
    before = _executions(server)
    with ThreadPoolExecutor(12) as pool:
        results = list(pool.map(lambda x: ask(server, "patient", x), batches))
    for x, result in zip(batches, results, strict=True):
        np.testing.assert_array_equal(result.as_numpy("scaled"), 2 * x)
    assert _executions(server) - before < len(batches)  # they did share runs


def test_a_request_that_cannot_be_computed_fails_alone(server: triton.InferenceServerClient) -> None:
    def outcome(row: int) -> str:
        try:
            ask(server, "patient", batch(1), row=row)
        except InferenceServerException as error:
            return "out of data bounds" if "out of data bounds" in str(error) else str(error)
        return "answered"

    rows = [0, 9, 1, 2, 9, 0]
    with ThreadPoolExecutor(len(rows)) as pool:
        outcomes = list(pool.map(outcome, rows))
    assert outcomes == ["out of data bounds" if row == 9 else "answered" for row in rows]


def test_a_graph_that_disagrees_with_its_contract_does_not_become_ready(server: triton.InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="something_else"):
        server.load_model("misnamed")
    assert not server.is_model_ready("misnamed", "1")


def test_the_metrics_that_alerts_and_the_dashboard_ask_for_are_shown(
    server: triton.InferenceServerClient, layout: Layout
) -> None:
    ask(server, "quick", batch(1))
    with urllib.request.urlopen(f"http://{layout.address('triton_metrics')}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    for name, labels in TRITON.items():
        shown = [set(re.findall(r'(\w+)="', line)) for line in lines if line.startswith(f"{name}{{")]
        assert shown and all(labels <= each for each in shown), name


def _executions(client: triton.InferenceServerClient) -> int:
    statistics = client.get_inference_statistics("patient", "1")
    return int(sum(model.execution_count for model in statistics.model_stats))
