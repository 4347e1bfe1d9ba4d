"""The runtimes that serve peers around `loop`: a graph file with one of them, tuned for CPU-seconds.

One thread each: two threads of one session take a quarter more CPU for the same rows on two cores, so that contestants
get two processes instead. OpenVINO compiles each batch that comes with fixed shapes, which costs a fifth less than one
graph of any batch. Of the tiny family OpenVINO computes the denoiser for .87 of ONNX Runtime's CPU, but the decoder for
1.28: `mixed` takes each where it costs less.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from lab.benchmarks.race.contestants.loop import Run, Tensors

THREADS = 1


def onnxruntime(path: Path, batches: Sequence[int]) -> Run:
    """ONNX Runtime, all optimisations, no spinning."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = {tensor.name for tensor in session.get_inputs()}
    return lambda feed: session.run(None, {name: value for name, value in feed.items() if name in names})[0]


def openvino(path: Path, batches: Sequence[int], precision: str = "f32") -> Run:
    """OpenVINO's CPU plugin, a compiled model for each batch."""
    import openvino as ov

    core = ov.Core()
    requests = {}
    for rows in batches:
        model = core.read_model(path)
        model.reshape({port.any_name: [rows, *port.partial_shape[1:]] for port in model.inputs})
        how = {"INFERENCE_NUM_THREADS": THREADS, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision}
        requests[rows] = core.compile_model(model, "CPU", how).create_infer_request()
    names = {port.any_name for port in model.inputs}

    def run(feed: Tensors) -> np.ndarray:
        rows = len(next(iter(feed.values())))
        given = {name: value for name, value in feed.items() if name in names}
        return np.array(requests[rows].infer(given, share_inputs=True)[0])

    return run


def openvino_bf16(path: Path, batches: Sequence[int]) -> Run:
    """The same with products in bfloat16: other pictures."""
    return openvino(path, batches, "bf16")


def mixed(path: Path, batches: Sequence[int]) -> Run:
    """Each graph with the runtime that costs less."""
    return (onnxruntime if path.parts[-3] == "vae_decoder" else openvino)(path, batches)


RUNTIMES: dict[str, Callable[[Path, Sequence[int]], Run]] = {
    "onnxruntime": onnxruntime,
    "openvino": openvino,
    "mixed": mixed,
    "openvino-bf16": openvino_bf16,
}
