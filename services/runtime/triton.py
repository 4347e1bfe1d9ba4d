"""Calls models. Every call names the release, so vectors and models of different releases never mix.

The logic depends on `Models`; `TritonModels` implements it. It knows Triton's protocol and the forms of its failures;
not the purpose of any model.
"""

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
from tritonclient import grpc as triton_messages
from tritonclient.grpc import aio as triton_aio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, triton_to_np_dtype

from services.runtime.deadlines import remaining_s
from services.runtime.errors import DeadlineExceeded, Unavailable
from services.runtime.tracing import traceparent

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]


class Models(ABC):
    """The models of all loaded releases."""

    @abstractmethod
    async def infer(self, model: str, inputs: Tensors, release: int) -> dict[str, Array]:
        """Runs a model on a batch (first dimension). Unavailable or DeadlineExceeded on failure."""

    @abstractmethod
    async def check(self, models: Sequence[str], release: int) -> None:
        """Returns when each model computes; raises Unavailable naming one that does not."""

    @abstractmethod
    async def close(self) -> None:
        """Lets go of connections."""


def usable(answer: Mapping[str, Array], model: str, output: str, shape: tuple[int | None, ...]) -> Array:
    """An output of this shape, None being any length, with nothing in it but numbers; Unavailable where it is not."""
    found = answer.get(output)
    if found is None or not _fits(found.shape, shape) or not np.isfinite(found).all():
        raise Unavailable("triton", f"returned an unusable {output} of {model}")
    return found


def _fits(found: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(found) == len(wanted) and all(n in (None, m) for n, m in zip(wanted, found, strict=True))


class TritonModels(Models):
    """Triton over gRPC. Must be made inside a running event loop.

    An answer proves its model for `probe_interval_s`, or that many times as long as it took if it took over a second:
    probes of a large model on a slow device must leave it time for its work.
    """

    def __init__(
        self, address: str, *, timeout_s: float, max_message_bytes: int, probe_interval_s: float = 10.0
    ) -> None:
        self._timeout_s = timeout_s
        self._probe_interval_s = probe_interval_s
        self._proven_until: dict[tuple[str, int], float] = {}  # by the clock of time.monotonic
        self._probes: dict[tuple[str, int], dict[str, Array]] = {}
        self._client = triton_aio.InferenceServerClient(
            address,
            channel_args=[
                ("grpc.max_receive_message_length", max_message_bytes),
                ("grpc.max_send_message_length", max_message_bytes),
                # gRPC's default back-off grows to two minutes; a restarted Triton must be picked up at once.
                ("grpc.initial_reconnect_backoff_ms", 200),
                ("grpc.max_reconnect_backoff_ms", 1000),
                ("grpc.keepalive_time_ms", 10000),
            ],
        )

    async def infer(self, model: str, inputs: Tensors, release: int) -> dict[str, Array]:
        limit_s, began = remaining_s(self._timeout_s), time.monotonic()
        trace = traceparent()
        try:
            result = await self._client.infer(
                model,
                [_input(name, array) for name, array in inputs.items()],
                model_version=str(release),
                client_timeout=limit_s,
                headers={"traceparent": trace} if trace else None,
            )
        except InferenceServerException as error:
            self._proven_until.pop((model, release), None)
            raise _translated(error, model, release, out_of_time=limit_s < self._timeout_s) from error
        answer = {output.name: _array(result, model, output.name) for output in result.get_response().outputs}
        now = time.monotonic()
        self._proven_until[model, release] = now + self._probe_interval_s * max(1.0, now - began)
        return answer

    async def check(self, models: Sequence[str], release: int) -> None:
        await _all(self._check_ready(model, release) for model in models)  # and none computes before all are
        await _all(self._prove(model, release) for model in models)

    async def _check_ready(self, model: str, release: int) -> None:
        if not await self._says_ready(model, release):
            self._proven_until.pop((model, release), None)
            raise Unavailable("triton", f"has not loaded release {release} of {model}")

    async def _prove(self, model: str, release: int) -> None:
        """Triton still reports a stuck model as "ready", so this needs a recent inference.

        A recent inference of the model is proof; without one, the model computes a sample.
        """
        key = (model, release)
        if time.monotonic() < self._proven_until.get(key, -math.inf):
            return
        self._proven_until.pop(key, None)
        if key not in self._probes:
            self._probes[key] = await self._probe_inputs(model, release)
        await self.infer(model, self._probes[key], release)

    async def _says_ready(self, model: str, release: int) -> bool:
        try:
            limit_s = remaining_s(self._timeout_s)
            return bool(await self._client.is_model_ready(model, str(release), client_timeout=limit_s))
        except InferenceServerException as error:
            raise Unavailable("triton") from error

    async def _probe_inputs(self, model: str, release: int) -> dict[str, Array]:
        """One sample of zeros in each input, by the model's own metadata."""
        try:
            metadata = await self._client.get_model_metadata(
                model, model_version=str(release), client_timeout=remaining_s(self._timeout_s)
            )
        except InferenceServerException as error:
            raise _translated(error, model, release, out_of_time=False) from error
        return {
            tensor.name: np.zeros([1, *tensor.shape[1:]], triton_to_np_dtype(tensor.datatype))
            for tensor in metadata.inputs
        }

    async def close(self) -> None:
        await self._client.close()


async def _all(checks: Iterable[Awaitable[None]]) -> None:
    """Waits for every one, then raises the first problem: a probe left behind would queue before real work."""
    for problem in await asyncio.gather(*checks, return_exceptions=True):
        if problem is not None:
            raise problem


def _input(name: str, array: Array) -> Any:
    tensor = triton_messages.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    tensor.set_data_from_numpy(np.ascontiguousarray(array))
    return tensor


def _array(result: Any, model: str, output: str) -> Array:
    try:
        array: Array | None = result.as_numpy(output)
    except ValueError:  # the shape it claims does not fit the bytes it sent
        array = None
    if array is None:  # a backend with a broken environment answers so
        raise Unavailable("triton", f"returned no data for {model} output {output}")
    return array


def _translated(error: InferenceServerException, model: str, release: int, *, out_of_time: bool) -> Exception:
    status = str(error.status() or "")
    message = str(error.message() or "")
    if grpc.StatusCode.DEADLINE_EXCEEDED.name in status:
        return DeadlineExceeded() if out_of_time else Unavailable("triton", f"took too long for {model}")
    not_loaded = "unknown model" in message or "not found" in message
    if grpc.StatusCode.NOT_FOUND.name in status or not_loaded:  # a server that restarted loads its models one by one
        return Unavailable("triton", f"has not loaded release {release} of {model}")
    if grpc.StatusCode.INVALID_ARGUMENT.name in status:
        return RuntimeError(message)  # the request's tensors are ours, so this is our fault: INTERNAL
    return Unavailable("triton", f"does not answer for {model}")
