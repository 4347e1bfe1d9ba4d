"""One model of a release → the fastest plan that gives ONNX Runtime's numbers, or the reasons why there is none.

Recipes are tried in turn: mixed float16, then float32 with rounded products, then float32. A plan is taken once every
output of every sample lies within the tolerance that the release's own graph was held to. Knows the order and the
comparison; engine.py knows TensorRT.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from contract.release import ModelFiles
from deploy.tensorrt.errors import BuildError, TensorRTError, WrongError
from deploy.tensorrt.half import halved
from deploy.tensorrt.samples import Arrays, Samples

GRAPH = "model.onnx"
LARGEST_PROTOBUF = 1 << 31  # beyond, weights stand in a file of their own


@dataclass(frozen=True)
class Recipe:
    """How a plan is built."""

    name: str
    half: bool
    tf32: bool


RECIPES = (Recipe("fp16", True, True), Recipe("tf32", False, True), Recipe("fp32", False, False))

Run = Callable[[Arrays], Arrays]
Build = Callable[[Path, bool], tuple[bytes, Run]]  # (graph, tf32) → a plan, and how it computes


@dataclass(frozen=True)
class Plan:
    """What was found: a plan and its recipe, or None; and the reasons against the recipes before it."""

    content: bytes | None
    recipe: str
    max_abs_error: float  # against ONNX Runtime
    tolerance: float
    refused: tuple[str, ...]
    settled: bool = True  # another try on such a machine finds the same


def find(folder: Path, entry: ModelFiles, samples: Samples, build: Build, times: float = 1.0) -> Plan:
    """Tries the recipes on a model's folder of a release.

    Args:
        times: of the release's tolerance that float16 may take; float32 never takes more than once.
    """
    batches = list(reference(folder / GRAPH, samples))
    refused, settled = [], True
    for recipe in RECIPES:
        tolerance = entry.tolerance * (times if recipe.half else 1.0)
        try:
            with graph_of(folder / GRAPH, recipe) as graph:
                content, run = build(graph, recipe.tf32)
            error = worst(batches, run, tolerance)
        except TensorRTError as problem:
            refused.append(f"{recipe.name}: {problem}")
            settled = settled and not isinstance(problem, BuildError)  # such as no memory just now
            continue
        return Plan(content, recipe.name, error, tolerance, tuple(refused))
    return Plan(None, "", 0.0, entry.tolerance, tuple(refused), settled)


def reference(graph: Path, samples: Samples) -> Iterator[tuple[Arrays, Arrays]]:
    """Inputs at batch sizes one, odd and full, each with ONNX Runtime's outputs."""
    import onnxruntime  # takes a while to load; --help needs none

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    for size in sorted({1, min(3, samples.largest), samples.largest}):
        inputs = samples.draw(size)
        yield inputs, dict(zip(names, session.run(names, inputs), strict=True))


class graph_of:
    """The graph that a recipe is built from, for as long as it is needed."""

    def __init__(self, graph: Path, recipe: Recipe) -> None:
        self._graph, self._half = graph, recipe.half

    def __enter__(self) -> Path:
        if not self._half:
            return self._graph
        self._folder = tempfile.TemporaryDirectory(prefix="perfusion-half-")
        path = Path(self._folder.name) / GRAPH
        model = halved(onnx.load(self._graph))
        onnx.save_model(model, path, save_as_external_data=model.ByteSize() >= LARGEST_PROTOBUF)
        return path

    def __exit__(self, *_: object) -> None:
        if self._half:
            self._folder.cleanup()


def worst(batches: list[tuple[Arrays, Arrays]], run: Run, tolerance: float) -> float:
    """The largest absolute difference of any output of any sample.

    Raises:
        WrongError: it is larger than allowed, or an output has another shape or type, or is not finite.
    """
    largest = 0.0
    for inputs, wanted in batches:
        found = run(inputs)
        for name, exact in wanted.items():
            error = _error(found.get(name), exact)
            if not error <= tolerance:
                raise WrongError(
                    f"output {name} of a batch of {len(exact)} lies {error:.3g} from ONNX Runtime's, "
                    f"where {tolerance:.3g} is allowed"
                )
            largest = max(largest, error)
    return largest


def _error(found: Any, exact: np.ndarray) -> float:
    """Infinite where the two cannot be compared, never NaN."""
    if found is None or found.shape != exact.shape or found.dtype != exact.dtype:
        return float("inf")
    error = float(np.abs(found.astype(np.float64) - exact.astype(np.float64)).max())
    return error if np.isfinite(error) else float("inf")
