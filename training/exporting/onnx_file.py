"""One torch module → one model.onnx, refused unless it fits the contract and gives torch's numbers.

ONNX Runtime is judged by torch in float64: it must lie within a tolerance, or about as near as torch's float32 does on
the same sample. A group normalisation, say, amplifies the rounding of a picture of one colour in either alike. Knows
torch.onnx and ONNX Runtime; nothing about which model it exports.
"""

import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx_ir.passes import Sequential
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    DeduplicateInitializersPass,
    InlinePass,
    LiftConstantsToInitializersPass,
    LiftSubgraphInitializersToMainGraphPass,
    NameFixPass,
    OutputFixPass,
    RemoveUnusedFunctionsPass,
    RemoveUnusedNodesPass,
    RemoveUnusedOpsetsPass,
)
from onnxscript.optimizer import fold_constants
from onnxscript.rewriter import _DEFAULT_REWRITE_RULES, RewritePass
from torch import Tensor, nn
from torch._dynamo.exc import UserError

from training.exporting.errors import ExportError, NumericalError
from training.exporting.float64 import InFloat64
from training.exporting.tensor_contract import Contract, check_graph

Draw = Callable[[Contract, int], tuple[Tensor, ...]]  # (contract, batch size) -> inputs
EXAMPLE_BATCH = 2  # the exporter takes a batch of one for a constant
TOLERANCE = 1e-4  # largest absolute difference relative to the output's scale
PIXEL_TOLERANCE = 1.0  # a value on the edge may round to its neighbour
TIMES_TORCHS_OWN = 4.0  # of float32's own error: ONNX Runtime adds up in another order, and so errs otherwise
LEAST_SAMPLES = 6  # so that a contract of small batches is checked by every kind of sample
REMEDY = (
    "export with the versions of torch, onnxscript and onnxruntime in requirements.lock; if these refuse it, too, the "
    "exporter translates an operator of this part wrongly, and the part cannot be served as it is"
)
NOT_FINITE = "torch itself gives no finite number: take an earlier checkpoint, or train with a lower learning rate"
# SlicesSplit lists the whole graph for each of its nodes: 17 s of a small U-Net's export, for what ends in the
# same numbers.
_RULES = [rule for rule in _DEFAULT_REWRITE_RULES if rule.name != "SlicesSplit"]
_FEWER_NODES = Sequential(
    RemoveUnusedNodesPass(),
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
    CommonSubexpressionEliminationPass(),
)
_REWRITE = Sequential(
    RewritePass(_RULES),
    RemoveUnusedNodesPass(),
    RemoveUnusedFunctionsPass(),
    RemoveUnusedOpsetsPass(),
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
    LiftSubgraphInitializersToMainGraphPass(),
    DeduplicateInitializersPass(),
    CommonSubexpressionEliminationPass(),
    OutputFixPass(),
    NameFixPass(),
)


@dataclass(frozen=True)
class Verified:
    """How far ONNX Runtime's numbers lie from torch's in float64, and how far they may, at the worst sample."""

    max_abs_error: float
    tolerance: float


@torch.inference_mode()
def export_onnx(module: nn.Module, contract: Contract, draw: Draw, path: Path) -> Verified:
    """Writes model.onnx with a dynamic batch; raises before a wrong file could be served."""
    module = module.eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), _Quiet("torch.onnx", "torch.export", "onnxscript"):
        warnings.simplefilter("ignore")  # the exporter's own deprecations do not concern a user
        try:
            program = torch.onnx.export(
                _traced(module, contract, draw),
                dynamo=True,
                optimize=False,
                input_names=[spec.name for spec in contract.inputs],
                output_names=[spec.name for spec in contract.outputs],
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise ExportError(f"{contract.name}: torch.onnx cannot export it; {_reason(error)}") from error
        _optimize(program)
        _free_output_names(program, contract)
        _forget_origin(program)
        program.save(str(path))
    check_graph(contract, onnx.load(str(path), load_external_data=False).graph)
    return verify(module, contract, draw, path)


def _traced(module: nn.Module, contract: Contract, draw: Draw) -> torch.export.ExportedProgram:
    """One trace. torch.onnx, given a module, retries a refused one in two other ways: ten times as long, no reason."""
    any_size = [{0: torch.export.Dim.DYNAMIC} for _ in contract.inputs]
    try:
        return torch.export.export(module, draw(contract, EXAMPLE_BATCH), dynamic_shapes=any_size, strict=False)
    except (ValueError, UserError) as error:
        raise ExportError(
            f"{contract.name}: its forward makes the batch's size a constant (`len` of a tensor does; take .shape[0], "
            f"see TORCH_LOGS=+dynamic); {error}"
        ) from error


def _reason(error: BaseException) -> str:
    """The first line of what went wrong first."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).splitlines()), type(error).__name__)


def _optimize(program: torch.onnx.ONNXProgram) -> None:
    """As torch.onnx does, but once, on fewer nodes and by the rules that cost no square of their number.

    ONNX Runtime makes the same graph of the file when it loads it.
    """
    InlinePass()(program.model)
    fold_constants(program.model)
    _FEWER_NODES(program.model)
    fold_constants(program.model, onnx_shape_inference=True)
    _REWRITE(program.model)


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
    """Compares with torch at batch sizes one, odd and full, sample by sample; returns the worst that is allowed.

    Raises:
        NumericalError: says which output of which sample lies how far from torch in float64.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    batches = (_compare(module, session, contract, draw(contract, size)) for size in _batch_sizes(contract))
    return max((verified for batch in batches for verified in batch), key=lambda one: one.max_abs_error / one.tolerance)


def _batch_sizes(contract: Contract) -> list[int]:
    """One, odd and full, and full ones until there are enough samples."""
    sizes = sorted({1, min(3, contract.max_batch_size), contract.max_batch_size})
    return sizes + [contract.max_batch_size] * -(-(LEAST_SAMPLES - sum(sizes)) // contract.max_batch_size)


def _compare(
    module: nn.Module, session: onnxruntime.InferenceSession, contract: Contract, inputs: tuple[Tensor, ...]
) -> Iterator[Verified]:
    """The worst sample of each output."""
    in_float32 = run(module, inputs)
    with InFloat64():
        in_float64 = run(module, inputs)
    feed = {spec.name: x.numpy() for spec, x in zip(contract.inputs, inputs, strict=True)}
    names = [spec.name for spec in contract.outputs]
    for name, exact, torchs, found in zip(names, in_float64, in_float32, session.run(names, feed), strict=True):
        error, own = (_errors(values, torchs.dtype, exact) for values in (found, torchs))  # (B,) both
        edge = PIXEL_TOLERANCE if torchs.dtype == np.uint8 else 0.0
        least = edge or TOLERANCE * max(1.0, float(np.abs(exact).max()))
        allowed = np.maximum(least, edge + TIMES_TORCHS_OWN * (np.where(np.isfinite(own), own, 0) - edge))
        worst = int(np.argmax(error / allowed))
        if not error[worst] <= allowed[worst]:
            raise NumericalError(
                f"{contract.name}: output {name} of {_sample(contract, inputs, worst)}: ONNX Runtime lies "
                f"{error[worst]:.3g} from torch in float64, where {allowed[worst]:.3g} is allowed and torch in float32 "
                f"lies {own[worst]:.3g} from it; {REMEDY if np.isfinite(own[worst]) else NOT_FINITE}"
            )
        yield Verified(float(error[worst]), float(allowed[worst]))


def run(module: nn.Module, inputs: tuple[Tensor, ...]) -> list[np.ndarray]:
    """The outputs of a module that returns one tensor or several."""
    outputs = module(*inputs)
    return [output.numpy() for output in ([outputs] if isinstance(outputs, Tensor) else outputs)]


def _errors(values: np.ndarray, dtype: np.dtype, exact: np.ndarray) -> np.ndarray:
    """The largest absolute difference of each sample, (B,); infinite where the two cannot be compared, never NaN."""
    if values.shape != exact.shape or values.dtype != dtype:
        return np.full(len(exact), np.inf)
    errors = np.abs(values.astype(np.float64) - exact.astype(np.float64)).reshape(len(exact), -1).max(1)
    return np.where(np.isfinite(errors), errors, np.inf)


def _sample(contract: Contract, inputs: tuple[Tensor, ...], row: int) -> str:
    """Which sample it is, by the range of each input's values."""
    names = [spec.name for spec in contract.inputs]
    edges = [[f"{edge.item():.4g}" for edge in x[row].aminmax()] for x in inputs]
    told = [
        f"{name} all {low}" if low == high else f"{name} {low} to {high}"
        for name, (low, high) in zip(names, edges, strict=True)
    ]
    return f"sample {row + 1} of a batch of {len(inputs[0])} ({', '.join(told)})"


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
