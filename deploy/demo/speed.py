"""The cluster's overhead: the denoising loop through the cluster against the same ONNX Runtime calls here.

Both run in turn, several times, on the same machine, batch, steps and threads; medians are compared, so a short
disturbance affects both. Knows the denoiser's file and its contract's shapes; not its computation.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

from deploy.demo.playing import GROUP_SIZE, Played
from deploy.local.triton_server import threads_of

REPETITIONS = 7
_DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


def denoise_vs_bare_onnx(model: Path, play: Callable[[], Played]) -> tuple[float, list[Played]]:
    """Loop time through the cluster over bare calls, and the rounds played to measure it."""
    session = bare_session(model)
    inputs = random_inputs(session)
    played = [play()]
    run_bare(session, inputs, played[0].steps)  # the first run of either side does not count
    played.clear()
    bare_s = []
    for _ in range(REPETITIONS):
        played.append(play())
        bare_s.append(run_bare(session, inputs, played[-1].steps))
    return statistics.median(p.loop_s for p in played) / statistics.median(bare_s), played


def bare_session(model: Path) -> ort.InferenceSession:
    """Threads as the cluster's backend sets them, and as there, none that spins between runs."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads_of(model.parents[2], model.parents[1].name)
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])


def random_inputs(session: ort.InferenceSession) -> dict[str, Any]:
    """A batch of one group: time does not depend on the values, as long as they are ordinary numbers."""
    rng = np.random.default_rng(0)
    return {
        tensor.name: (rng.random((GROUP_SIZE, *tensor.shape[1:])) * 2).astype(_DTYPES[tensor.type])
        for tensor in session.get_inputs()
    }


def run_bare(session: ort.InferenceSession, inputs: dict[str, Any], steps: int) -> float:
    begin = time.perf_counter()
    for _ in range(steps):
        session.run(None, inputs)
    return time.perf_counter() - begin
