"""TensorRT's Python API: an ONNX file → a plan, and a plan's outputs. Thin, since it runs only where a GPU is.

`trt` is the module `tensorrt`, `cudart` the module `cuda.bindings.runtime`: the caller imports them. Knows neither
releases nor which precision is wanted: a strongly typed network has the types of its graph.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deploy.tensorrt.errors import BuildError, GraphError

Shape = tuple[int, ...]
WORKSPACE_BYTES = 4 << 30
SHOWN_ERRORS = 3


@dataclass(frozen=True)
class Range:
    """The shapes of one input that a plan takes, with the batch."""

    least: Shape
    usual: Shape  # what TensorRT chooses its kernels for
    most: Shape


@dataclass(frozen=True)
class Built:
    """A plan, and what was measured on the way: a later build on the same GPU is faster with it."""

    plan: bytes
    timings: bytes


def ranges(config: Any) -> dict[str, Range]:
    """The shape profile of a model by its config.pbtxt: batches from one to the largest.

    The usual batch is the largest one that the model is warmed up with.
    """
    most = max(config.max_batch_size, 1)
    usual = min(max((warmup.batch_size for warmup in config.model_warmup), default=1), most)
    return {tensor.name: Range(*((batch, *tensor.dims) for batch in (1, usual, most))) for tensor in config.input}


def build(
    trt: Any,
    graph: Path,
    shapes: Mapping[str, Range],
    *,
    tf32: bool,
    timings: bytes = b"",
    prepare: Callable[[Any], object] = lambda config: None,
) -> Built:
    """Builds a plan for this machine's GPU.

    Args:
        tf32: whether products of float32 may be rounded to ten bits.
        prepare: changes the builder's configuration before it builds.

    Raises:
        GraphError: the parser refuses the graph.
        BuildError: there is no plan.
    """
    said: list[str] = []
    logger = _logger(trt, said)
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parse(trt, network, logger, graph)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    if not tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    config.set_timing_cache(config.create_timing_cache(timings), ignore_mismatch=False)
    profile = builder.create_optimization_profile()
    for name, shape in shapes.items():
        profile.set_shape(name, shape.least, shape.usual, shape.most)
    config.add_optimization_profile(profile)
    prepare(config)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildError(f"{graph}: TensorRT builds no plan: {_shown(said)}")
    cache = config.get_timing_cache()
    return Built(bytes(plan), b"" if cache is None else bytes(cache.serialize()))


def parse(trt: Any, network: Any, logger: Any, graph: Path) -> None:
    """Raises GraphError, which names the nodes that the parser refuses."""
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(graph)):
        errors = [str(parser.get_error(index)) for index in range(parser.num_errors)]
        raise GraphError(f"{graph}: TensorRT's parser refuses it: {_shown(errors)}")


class Engine:
    """A plan on this machine's GPU.

    Raises:
        BuildError: TensorRT, or the GPU, refuses it.
    """

    def __init__(self, trt: Any, cudart: Any, plan: bytes) -> None:
        self._trt, self._cudart, self._said = trt, cudart, list[str]()
        self._runtime = trt.Runtime(_logger(trt, self._said))
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise BuildError(f"TensorRT does not load the plan: {_shown(self._said)}")
        self._context = self._engine.create_execution_context()

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """One batch."""
        for name, array in inputs.items():
            if not self._context.set_input_shape(name, array.shape):
                raise BuildError(f"the plan refuses {name} of shape {array.shape}: {_shown(self._said)}")
        arrays = dict(inputs) | {name: self._empty(name) for name in self._outputs()}
        places: dict[str, int] = {}
        with self._memory(arrays, places):
            for name, array in inputs.items():
                self._copy(places[name], array.ctypes.data, array.nbytes, "cudaMemcpyHostToDevice")
            for name, place in places.items():
                self._context.set_tensor_address(name, place)
            stream = self._ask("cudaStreamCreate")
            try:
                if not self._context.execute_async_v3(int(stream)):
                    raise BuildError(f"the plan does not run: {_shown(self._said)}")
                self._ask("cudaStreamSynchronize", stream)
            finally:
                self._ask("cudaStreamDestroy", stream)
            for name in self._outputs():
                self._copy(arrays[name].ctypes.data, places[name], arrays[name].nbytes, "cudaMemcpyDeviceToHost")
        return {name: arrays[name] for name in self._outputs()}

    def _outputs(self) -> list[str]:
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        return [name for name in names if self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.OUTPUT]

    def _empty(self, name: str) -> NDArray[Any]:
        dtype = self._trt.nptype(self._engine.get_tensor_dtype(name))
        return np.empty(tuple(self._context.get_tensor_shape(name)), dtype)

    @contextmanager
    def _memory(self, arrays: Mapping[str, NDArray[Any]], places: dict[str, int]) -> Iterator[None]:
        """Room on the GPU for each array, for as long as it is needed."""
        try:
            for name, array in arrays.items():
                places[name] = int(self._ask("cudaMalloc", max(array.nbytes, 1)))
            yield
        finally:
            for place in places.values():
                self._ask("cudaFree", place)

    def _copy(self, to: int, of: int, size: int, direction: str) -> None:
        self._ask("cudaMemcpy", to, of, size, getattr(self._cudart.cudaMemcpyKind, direction))

    def _ask(self, name: str, *arguments: Any) -> Any:
        return ask(self._cudart, name, *arguments)


def ask(cudart: Any, name: str, *arguments: Any) -> Any:
    """A call of the CUDA runtime; what it gives beside the error.

    Raises:
        BuildError: it failed.
    """
    error, *given = getattr(cudart, name)(*arguments)
    if error != cudart.cudaError_t.cudaSuccess:
        raise BuildError(f"{name} failed: {error.name}: is there a GPU, and its driver, on this machine?")
    return given[0] if given else None


def capability(cudart: Any) -> str:
    """The compute capability of this machine's first GPU, such as "89"."""
    kinds = cudart.cudaDeviceAttr
    wanted = (kinds.cudaDevAttrComputeCapabilityMajor, kinds.cudaDevAttrComputeCapabilityMinor)
    return "".join(str(int(ask(cudart, "cudaDeviceGetAttribute", each, 0))) for each in wanted)


def _logger(trt: Any, said: list[str]) -> Any:
    """Keeps errors, which the calls themselves do not give."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                said.append(message)

    return Logger()


def _shown(said: list[str]) -> str:
    return "; ".join(" ".join(each.split())[:300] for each in said[:SHOWN_ERRORS]) or "it does not say why"
