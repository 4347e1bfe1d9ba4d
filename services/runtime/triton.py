"""Calls models. Every call names the release, so vectors and models of different releases never mix.

The logic depends on `Models`; `TritonModels` implements it. It knows Triton's protocol and the forms of its failures;
not the purpose of any model.
"""

import asyncio
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
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
_PROBES_IN_DOUBT = 4  # probes of each of several instances after a failure
_RETRIES = 12  # of a call whose instance failed: the other may be at work, and the dead one takes all that comes


class InstanceFailed(Unavailable):
    """The server answers, but the instance that had the call could not compute."""


class Models(ABC):
    """The models of all loaded releases."""

    @abstractmethod
    async def infer(self, model: str, inputs: Tensors, release: int) -> dict[str, Array]:
        """Runs a model on a batch (first dimension). Unavailable or DeadlineExceeded on failure."""

    @abstractmethod
    async def check(self, models: Sequence[str], release: int) -> None:
        """Returns when each model computes in all its instances; raises Unavailable naming one that does not."""

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


@dataclass
class _Evidence:
    """What inferences of one release of a model have shown; a failure puts another in its place."""

    doubted: bool = False  # an instance has failed since the model was last proven
    answered: int = 0  # probes since then, without a failure in between
    proven_until: float = -math.inf  # by the clock of time.monotonic
    probe: Tensors | None = None


class TritonModels(Models):
    """Triton over gRPC. Must be made inside a running event loop.

    What proves a model, until an inference fails: an answer, for a model with one instance. Of several, each may be a
    process that dies alone, so they are proven by as many probes one after the other, which Triton gives to its idle
    instances in turn; after a failure by four times as many, since calls in between disturb the turns.

    A proof lasts `proof_s`, or so long that probes take no more than `probe_share` of a model's time: a large model on
    a slow device must come to its work.

    Of a model with several instances, a call whose instance failed is asked again, since models are functions: another
    instance may live.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float,
        max_message_bytes: int,
        proof_s: float = 1.0,
        probe_share: float = 0.1,
    ) -> None:
        self._timeout_s = timeout_s
        self._proof_s = proof_s
        self._probe_share = probe_share
        self._evidence: dict[tuple[str, int], _Evidence] = {}
        self._instances: dict[tuple[str, int], int] = {}
        self._in_flight: dict[tuple[str, int], set[asyncio.Future[None]]] = {}
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
        for _ in range(_RETRIES if self._instances.get((model, release), 1) > 1 else 0):
            with suppress(InstanceFailed):
                return await self._infer(model, inputs, release)
        return await self._infer(model, inputs, release)

    async def _infer(self, model: str, inputs: Tensors, release: int) -> dict[str, Array]:
        in_flight = self._in_flight.setdefault((model, release), set())
        ended = asyncio.get_running_loop().create_future()
        in_flight.add(ended)
        try:
            return await self._ask(model, inputs, release)
        finally:
            in_flight.discard(ended)
            ended.set_result(None)

    async def _ask(self, model: str, inputs: Tensors, release: int) -> dict[str, Array]:
        """Asks once. A failure is evidence against the model, but where the caller had too little time."""
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
            answer = {output.name: _array(result, model, output.name) for output in result.get_response().outputs}
        except InferenceServerException as error:
            problem = _translated(error, model, release, out_of_time=limit_s < self._timeout_s)
            if not isinstance(problem, DeadlineExceeded):
                self._forget(model, release, doubted=isinstance(problem, InstanceFailed))
            raise problem from error
        except InstanceFailed:
            self._forget(model, release, doubted=True)
            raise
        known = self._evidence.get((model, release))
        if known is not None and known.probe is not None and self._instances[model, release] == 1:
            self._believe(known, began)
        return answer

    async def check(self, models: Sequence[str], release: int) -> None:
        await _all(self._check_ready(model, release) for model in models)  # and none computes before all are
        await _all(self._prove(model, release) for model in models)

    async def _check_ready(self, model: str, release: int) -> None:
        if not await self._says_ready(model, release):
            self._forget(model, release, doubted=False)
            raise Unavailable("triton", f"has not loaded release {release} of {model}")

    async def _prove(self, model: str, release: int) -> None:
        """Triton still reports a stuck model as "ready", so the model computes samples unless it was proven lately."""
        known = self._evidence.setdefault((model, release), _Evidence())
        if time.monotonic() < known.proven_until:
            return
        if known.probe is None:
            self._instances[model, release] = await self._count_instances(model, release)
            known.probe = await self._probe_inputs(model, release)
        began = time.monotonic()
        earlier = set(self._in_flight.get((model, release), ())) if known.doubted else set()
        while known.answered < _probes(self._instances[model, release], doubted=known.doubted):
            await self._infer(model, known.probe, release)
            known.answered += 1
        if earlier:  # an instance that is dead may hold one of them, while others answer the probes
            await asyncio.wait(earlier)
        if self._evidence[model, release] is not known:
            raise Unavailable("triton", f"failed in a call of {model} meanwhile")
        self._believe(known, began)

    def _believe(self, known: _Evidence, began: float) -> None:
        now = time.monotonic()
        known.proven_until = now + max(self._proof_s, (now - began) / self._probe_share)
        known.doubted, known.answered = False, 0

    def _forget(self, model: str, release: int, *, doubted: bool) -> None:
        """What was proven, and how many instances there are: a Triton that was restarted may have others."""
        self._evidence[model, release] = _Evidence(doubted=doubted)

    async def _says_ready(self, model: str, release: int) -> bool:
        try:
            limit_s = remaining_s(self._timeout_s)
            return bool(await self._client.is_model_ready(model, str(release), client_timeout=limit_s))
        except InferenceServerException as error:
            raise Unavailable("triton") from error

    async def _count_instances(self, model: str, release: int) -> int:
        """How many Triton runs side by side, by the configuration it has loaded."""
        answer = await self._about(self._client.get_model_config, model, release)
        return sum(group.count * max(1, len(group.gpus)) for group in answer.config.instance_group) or 1

    async def _probe_inputs(self, model: str, release: int) -> Tensors:
        """One sample of zeros in each input, by the model's own metadata."""
        metadata = await self._about(self._client.get_model_metadata, model, release)
        return {
            tensor.name: np.zeros([1, *tensor.shape[1:]], triton_to_np_dtype(tensor.datatype))
            for tensor in metadata.inputs
        }

    async def _about(self, ask: Callable[..., Awaitable[Any]], model: str, release: int) -> Any:
        try:
            return await ask(model, model_version=str(release), client_timeout=remaining_s(self._timeout_s))
        except InferenceServerException as error:
            raise _translated(error, model, release, out_of_time=False) from error

    async def close(self) -> None:
        await self._client.close()


def _probes(instances: int, *, doubted: bool) -> int:
    return instances * _PROBES_IN_DOUBT if doubted and instances > 1 else instances


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
        raise InstanceFailed("triton", f"returned no data for {model} output {output}")
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
    kind = InstanceFailed if grpc.StatusCode.INTERNAL.name in status else Unavailable
    return kind("triton", f"does not answer for {model}")
