"""Triton's `onnxruntime` backend for a machine whose Triton has only the Python backend.

Serves `<model>/<version>/model.onnx` with ONNX Runtime exactly as config.pbtxt describes it, so the model repository is
the same, file for file, as under the C++ backend of that name. Understands the C++ backend's parameters
`intra_op_thread_count` and `inter_op_thread_count`. Does not know what the models compute; runs only inside Triton's
Python stub.
"""

import json
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

MODEL_FILE = "model.onnx"


class TritonPythonModel:
    """One instance of one version of one model: a session and the names the contract gives it."""

    def initialize(self, args):
        config = json.loads(args["model_config"])
        self._inputs = {i["name"]: pb_utils.triton_string_to_numpy(i["data_type"]) for i in config["input"]}
        self._outputs = [o["name"] for o in config["output"]]
        path = Path(args["model_repository"], args["model_version"], MODEL_FILE)
        self._session = ort.InferenceSession(str(path), _session_options(config), providers=["CPUExecutionProvider"])
        self._check_names(config["name"])
        self._warm_up(config)

    def execute(self, requests):
        """One response per request, in order; a request that cannot be computed fails alone."""
        if len(requests) > 1:
            with suppress(Exception):  # the faulty request is not known yet: each then runs by itself
                return self._run_together(requests)
        return [self._run_alone(request) for request in requests]

    def finalize(self):
        self._session = None

    def _check_names(self, model):
        """A graph that disagrees with the contract must not become ready."""
        graph = {i.name for i in self._session.get_inputs()}, {o.name for o in self._session.get_outputs()}
        contract = set(self._inputs), set(self._outputs)
        if graph != contract:
            raise pb_utils.TritonModelException(f"{model}: the graph has {graph}, config.pbtxt says {contract}")

    def _warm_up(self, config):
        """One real inference before Triton calls the model ready, so allocation and planning do not delay a caller."""
        rows = (1,) if config["max_batch_size"] > 0 else ()
        shapes = {i["name"]: rows + tuple(max(int(d), 1) for d in i["dims"]) for i in config["input"]}
        self._session.run(self._outputs, {n: np.zeros(shapes[n], dtype) for n, dtype in self._inputs.items()})

    def _run_together(self, requests):
        """Runs several requests as one batch, as the dynamic batcher intends."""
        each = [self._read(request) for request in requests]
        rows = [len(next(iter(one.values()))) for one in each]
        joined = self._session.run(self._outputs, {n: np.concatenate([one[n] for one in each]) for n in self._inputs})
        ends = np.cumsum(rows)
        return [self._answer([o[end - n : end] for o in joined]) for n, end in zip(rows, ends, strict=True)]

    def _run_alone(self, request):
        try:
            return self._answer(self._session.run(self._outputs, self._read(request)))
        except Exception as error:  # ONNX Runtime's errors share no base
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)))

    def _read(self, request):
        """Views into Triton's shared memory, which ONNX Runtime reads without a copy."""
        return {t.name(): t.as_numpy() for t in request.inputs()}

    def _answer(self, values):
        tensors = zip(self._outputs, values, strict=True)
        return pb_utils.InferenceResponse([pb_utils.Tensor(n, np.ascontiguousarray(v)) for n, v in tensors])


def _session_options(config):
    """Threads bounded by the parameter or this process's cores, so seven models do not fight over the machine."""
    parameters = {k: v["string_value"] for k, v in config.get("parameters", {}).items()}
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", len(os.sched_getaffinity(0))))
    options.inter_op_num_threads = int(parameters.get("inter_op_thread_count", 1))
    # An idle worker that spins takes the core which the next model, or the service awaiting the answer, needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", parameters.get("allow_spinning", "0"))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return options
