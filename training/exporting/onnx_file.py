"""One torch module → one model.onnx, refused unless it fits the contract and gives torch's numbers.

Knows torch.onnx and ONNX Runtime; nothing about which model it exports.
"""

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import Tensor, nn

from training.exporting.errors import NumericalError
from training.exporting.tensor_contract import Contract, check_graph

Draw = Callable[[Contract, int], tuple[Tensor, ...]]  # (contract, batch size) -> inputs
EXAMPLE_BATCH = 2  # the exporter takes a batch of one for a constant
TOLERANCE = 1e-4  # largest absolute difference relative to the output's scale
PIXEL_TOLERANCE = 1.0  # a value on the edge may round to its neighbour


@dataclass(frozen=True)
class Verified:
    """How far ONNX Runtime's numbers lie from torch's, and how far they may."""

    max_abs_error: float
    tolerance: float


@torch.inference_mode()
def export_onnx(module: nn.Module, contract: Contract, draw: Draw, path: Path) -> Verified:
    """Writes model.onnx with a dynamic batch; raises before a wrong file could be served."""
    module = module.eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), _Quiet("torch.onnx", "torch.export", "onnxscript"):
        warnings.simplefilter("ignore")  # the exporter's own deprecations do not concern a user
        program = torch.onnx.export(
            module,
            draw(contract, EXAMPLE_BATCH),
            dynamo=True,
            dynamic_shapes=[{0: torch.export.Dim.DYNAMIC} for _ in contract.inputs],  # refuses a fixed batch
            input_names=[spec.name for spec in contract.inputs],
            output_names=[spec.name for spec in contract.outputs],
            verbose=False,
        )
        _free_output_names(program, contract)
        _forget_origin(program)
        program.save(str(path))
    check_graph(contract, onnx.load(str(path), load_external_data=False).graph)
    return verify(module, contract, draw, path)


def _free_output_names(program: torch.onnx.ONNXProgram, contract: Contract) -> None:
    """Renames inner values: the exporter names them after operators such as "embedding", as an output may be named."""
    taken = {spec.name for spec in contract.outputs}
    graph = program.model.graph
    computed = [value for node in graph.all_nodes() for value in node.outputs if not value.is_graph_output()]
    for value in [*computed, *graph.initializers.values()]:
        if value.name in taken:
            value.name = f"inner_{value.name}"


def _forget_origin(program: torch.onnx.ONNXProgram) -> None:
    """Removes each node's Python stack: megabytes, and paths of this machine."""
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()
        node.doc_string = None


@torch.inference_mode()
def verify(module: nn.Module, contract: Contract, draw: Draw, path: Path) -> Verified:
    """Compare with torch at batch sizes one, odd and full."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    sizes = sorted({1, min(3, contract.max_batch_size), contract.max_batch_size})
    errors = [_compare(module, session, contract, draw(contract, size)) for size in sizes]
    worst = max(errors, key=lambda verified: verified.max_abs_error / verified.tolerance)
    if worst.max_abs_error > worst.tolerance:
        raise NumericalError(
            f"{contract.name}: ONNX Runtime differs from torch by {worst.max_abs_error:.3g}, "
            f"more than {worst.tolerance:.3g}"
        )
    return worst


def _compare(
    module: nn.Module, session: onnxruntime.InferenceSession, contract: Contract, inputs: tuple[Tensor, ...]
) -> Verified:
    expected = module(*inputs)
    expected = [expected] if isinstance(expected, Tensor) else list(expected)
    feed = {spec.name: x.numpy() for spec, x in zip(contract.inputs, inputs, strict=True)}
    names = [spec.name for spec in contract.outputs]
    found = session.run(names, feed)
    pairs = [_difference(a.numpy(), b) for a, b in zip(expected, found, strict=True)]
    return max(pairs, key=lambda verified: verified.max_abs_error / verified.tolerance)


def _difference(expected: np.ndarray, found: np.ndarray) -> Verified:
    """Infinite where the two cannot be compared; never NaN, which a maximum ignores."""
    comparable = expected.shape == found.shape and expected.dtype == found.dtype
    if not (comparable and np.isfinite(expected).all() and np.isfinite(found).all()):
        return Verified(float("inf"), 1.0)
    error = np.abs(expected.astype(np.float64) - found.astype(np.float64)).max()
    if expected.dtype == np.uint8:
        return Verified(float(error), PIXEL_TOLERANCE)
    return Verified(float(error), TOLERANCE * max(1.0, float(np.abs(expected).max())))


class _Quiet:
    """Only errors from these loggers: the exporter reports its progress as warnings."""

    def __init__(self, *names: str) -> None:
        self.loggers = [logging.getLogger(name) for name in names]

    def __enter__(self) -> None:
        self.levels = [logger.level for logger in self.loggers]
        for logger in self.loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        for logger, level in zip(self.loggers, self.levels, strict=True):
            logger.setLevel(level)
