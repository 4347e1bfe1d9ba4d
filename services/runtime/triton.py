"""Calls models. Every call names the release, so vectors and models of different releases never mix.

The logic depends on `Models`; `TritonModels` implements it. It knows Triton's protocol and the forms of its failures;
not the purpose of any model.
"""

import asyncio
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
from opentelemetry.trace import SpanKind
from tritonclient import grpc as triton_messages
from tritonclient.grpc import aio as triton_aio
from tritonclient.grpc import service_pb2_grpc
from tritonclient.utils import InferenceServerException, np_to_triton_dtype, triton_to_np_dtype

from contract import tracing
from services.runtime.certificates import Certificates
from services.runtime.clients import open_channel
from services.runtime.deadlines import remaining_s
from services.runtime.errors import DeadlineExceeded, Unavailable
from services.runtime.patience import asked_again

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]
_TURNS = 5  # of each of several instances, until one answers a probe
_WELL_AFTER = 5  # proofs without a failure
_AILING_SHARE = 0.5  # of a model's time that probes may take while an instance fails: the others may follow soon
_TURN_PAUSE_S = 0.1  # before the turns after the first: an instance at work answers none

_log = logging.getLogger(__name__)


class InstanceFailed(Unavailable):
    """The server answers, but the instance that had the call could not compute."""


class NotLoaded(Unavailable):
    """The server answers, and has not loaded the release."""

    def __init__(self, model: str, release: int) -> None:
        super().__init__("triton", f"has not loaded release {release} of {model}")


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


@dataclass
class _Evidence:
    """What is known of one release of a model until the server fails."""

    instances: int
    probe: Tensors
    proven_until: float = -math.inf  # by the clock of time.monotonic
    answers: int = 0  # to probes and calls
    ailing: int = 0  # proofs without a failure that are wanted until all instances count as well


class _Client(triton_aio.InferenceServerClient):  # type: ignore[misc] # it has no types
    """tritonclient's, over a channel that it has not opened itself."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        super(triton_aio.InferenceServerClient, self).__init__()
        self._channel, self._verbose = channel, False
        self._client_stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)


class TritonModels(Models):
    """Triton over gRPC. Must be made inside a running event loop.

    A call whose instance failed is asked again while its time lasts, since models are functions: another instance may
    live, or the dead one be revived. So a model serves while one of its instances computes. services.runtime.patience
    says who waits for a server that is gone, too.

    What proves a model, until an inference fails: an answer, for a model with one instance. Of several, each may be a
    process that dies or hangs alone, so as many probes follow one after the other, which Triton gives to its idle
    instances in turn: each must answer or fail, and at least one must answer. One that hangs fails the check.

    A proof lasts `proof_s`, or so long that probes take no more than `probe_share` of a model's time: a large model on
    a slow device must come to its work. While an instance fails they may take half of it.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float,
        max_message_bytes: int,
        certificates: Certificates | None,
        proof_s: float = 1.0,
        probe_share: float = 0.1,
    ) -> None:
        self._timeout_s = timeout_s
        self._proof_s = proof_s
        self._probe_share = probe_share
        self._evidence: dict[tuple[str, int], _Evidence] = {}
        self._client = _Client(
            open_channel(
                *(address, ("grpc.keepalive_time_ms", 10_000)),
                max_message_bytes=max_message_bytes,
                certificates=certificates,
            )
        )

    async def infer(self, model: str, inputs: Tensors, release: int) -> dict[str, Array]:
        return await asked_again(lambda: self._ask(model, inputs, release), InstanceFailed, self._timeout_s)

    async def _ask(self, model: str, inputs: Tensors, release: int) -> dict[str, Array]:
        """Asks once. A failure is evidence against the model, but where the caller had too little time."""
        rows = len(next(iter(inputs.values()), ()))
        told: tracing.Attributes = {"service.peer.name": "triton", "perfusion.rows": rows, "perfusion.release": release}
        with tracing.span(f"triton: {model}", told, kind=SpanKind.CLIENT):
            return await self._answer(model, inputs, release)

    async def _answer(self, model: str, inputs: Tensors, release: int) -> dict[str, Array]:
        limit_s, began = remaining_s(self._timeout_s), time.monotonic()
        try:
            result = await self._client.infer(
                model,
                [_input(name, array) for name, array in inputs.items()],
                model_version=str(release),
                client_timeout=limit_s,
                headers=dict(tracing.metadata() or ()) or None,
            )
            answer = {output.name: _array(result, model, output.name) for output in result.get_response().outputs}
        except InferenceServerException as error:
            problem = _translated(error, model, release, out_of_time=limit_s < self._timeout_s)
            if isinstance(problem, InstanceFailed):
                self._doubt(model, release)
            elif not isinstance(problem, DeadlineExceeded):
                self._forget(model, release)
            raise problem from error
        except InstanceFailed:
            self._doubt(model, release)
            raise
        known = self._evidence.get((model, release))
        if known is not None:
            known.answers += 1
            if known.instances == 1:
                self._believe(known, began)
        return answer

    async def check(self, models: Sequence[str], release: int) -> None:
        await _all(self._check_ready(model, release) for model in models)  # and none computes before all are
        await _all(self._prove(model, release) for model in models)

    async def _check_ready(self, model: str, release: int) -> None:
        if not await self._says_ready(model, release):
            self._forget(model, release)
            raise NotLoaded(model, release)

    async def _prove(self, model: str, release: int) -> None:
        """Triton still reports a stuck model as "ready", so the model computes samples unless it was proven lately."""
        if (known := self._evidence.get((model, release))) is None:
            instances, probe = await self._count_instances(model, release), await self._probe_inputs(model, release)
            known = self._evidence.setdefault((model, release), _Evidence(instances, probe))
        if time.monotonic() < known.proven_until:
            return
        began = time.monotonic()
        failure = await self._probe(known, model, release)
        if self._evidence.get((model, release)) is not known:
            raise Unavailable("triton", f"failed in a call of {model} meanwhile")
        self._tell(known, f"{model} of release {release}", failure)
        self._believe(known, began)

    def _tell(self, known: _Evidence, model: str, failure: InstanceFailed | None) -> None:
        """Logs that an instance began to fail, or that all are well: one proof may miss the one that is dead."""
        before, known.ailing = known.ailing, _WELL_AFTER if failure is not None else max(0, known.ailing - 1)
        if before == 0 and known.ailing:
            _log.warning("%s: an instance fails, calls go to the others", model)
        elif before and known.ailing == 0:
            _log.warning("%s: all instances answer again", model)

    async def _probe(self, known: _Evidence, model: str, release: int) -> InstanceFailed | None:
        """Has every instance compute, or what comes to it; returns how one failed, raises that when none answered."""
        before, failure = known.answers, None
        for turn in range(known.instances * _TURNS if known.instances > 1 else 1):
            if turn >= known.instances:
                if known.answers > before:
                    break
                await asyncio.sleep(_TURN_PAUSE_S)
            try:
                await self._ask(model, known.probe, release)
            except InstanceFailed as error:
                failure = error
        if known.answers == before and failure is not None:
            raise failure
        return failure

    def _believe(self, known: _Evidence, began: float) -> None:
        now = time.monotonic()
        share = max(self._probe_share, _AILING_SHARE) if known.ailing else self._probe_share
        known.proven_until = now + max(self._proof_s, (now - began) / share)

    def _doubt(self, model: str, release: int) -> None:
        """An instance failed: what was proven must be proven again."""
        if (known := self._evidence.get((model, release))) is not None:
            known.proven_until = -math.inf

    def _forget(self, model: str, release: int) -> None:
        """What was proven, and how many instances there are: a Triton that was restarted may have others."""
        self._evidence.pop((model, release), None)

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
        return NotLoaded(model, release)
    if grpc.StatusCode.INVALID_ARGUMENT.name in status:
        return RuntimeError(message)  # the request's tensors are ours, so this is our fault: INTERNAL
    kind = InstanceFailed if grpc.StatusCode.INTERNAL.name in status else Unavailable
    return kind("triton", f"does not answer for {model}")
