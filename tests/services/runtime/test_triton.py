"""The Triton client against a real gRPC server that speaks Triton's protocol in this process."""

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest
import pytest_asyncio
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from contract import tracing
from services.runtime.deadlines import deadline_in
from services.runtime.errors import DeadlineExceeded, Unavailable
from services.runtime.patience import impatient, outlasting
from services.runtime.triton import TritonModels

INPUT = {"x": np.array([[1.0, 2.0]], np.float32)}


class Doubling(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Holds release 1 of a model that doubles x. `state` makes it hang, answer nothing, or refuse.

    It has as many instances as `dead` has entries. A call goes to the one that is idle longest, as Triton does it, and
    a dead one is idle again at once.
    """

    def __init__(self) -> None:
        self.state = "works"
        self.dead = [False]
        self.idle: asyncio.Queue[int] = asyncio.Queue()
        self.hold: asyncio.Event | None = None  # until when living instances keep their calls
        self.made = 0  # instances
        self.versions: list[str] = []
        self.traces: list[str] = []
        self.batches: list[int] = []

    @asynccontextmanager
    async def instance(self) -> AsyncIterator[int]:
        """One that takes a call."""
        while self.made < len(self.dead):
            self.idle.put_nowait(self.made)
            self.made += 1
        number = await self.idle.get()
        try:
            yield number
        finally:
            self.idle.put_nowait(number)

    async def ModelReady(self, request: Any, context: Any) -> Any:
        return service_pb2.ModelReadyResponse(ready=request.version == "1" and request.name != "loading")

    async def ModelMetadata(self, request: Any, context: Any) -> Any:
        tensor = service_pb2.ModelMetadataResponse.TensorMetadata(name="x", datatype="FP32", shape=[-1, 2])
        return service_pb2.ModelMetadataResponse(name=request.name, inputs=[tensor])

    async def ModelConfig(self, request: Any, context: Any) -> Any:
        group = model_config_pb2.ModelInstanceGroup(count=len(self.dead))
        return service_pb2.ModelConfigResponse(config=model_config_pb2.ModelConfig(instance_group=[group]))

    async def ModelInfer(self, request: Any, context: Any) -> Any:
        self.versions.append(request.model_version)
        async with self.instance() as number:
            if self.dead[number]:
                await context.abort(grpc.StatusCode.INTERNAL, "Stub process 'double_0_1' is not healthy.")
            if self.hold is not None:
                await self.hold.wait()
            return await self._compute(request, context)

    async def _compute(self, request: Any, context: Any) -> Any:
        self.traces += [value for key, value in context.invocation_metadata() if key == "traceparent"]
        if self.state == "hangs":
            await asyncio.sleep(60)
        if request.model_version != "1":
            message = f"Request for unknown model: 'double' version {request.model_version} is not found"
            await context.abort(grpc.StatusCode.NOT_FOUND, message)
        if self.state == "refuses":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "unexpected shape for input 'x'")
        x = np.frombuffer(request.raw_input_contents[0], np.float32)
        self.batches.append(request.inputs[0].shape[0])
        output = service_pb2.ModelInferResponse.InferOutputTensor(
            name="y", datatype="FP32", shape=request.inputs[0].shape
        )
        if self.state == "empty":
            return service_pb2.ModelInferResponse(outputs=[output])
        return service_pb2.ModelInferResponse(outputs=[output], raw_output_contents=[(2 * x).tobytes()])


async def serve(servicer: Doubling, port: int = 0) -> tuple[grpc.aio.Server, int]:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return server, port


@pytest.fixture
def triton() -> Doubling:
    return Doubling()


@pytest_asyncio.fixture
async def models(triton: Doubling) -> AsyncIterator[TritonModels]:
    server, port = await serve(triton)
    client = TritonModels(
        f"127.0.0.1:{port}",
        timeout_s=5.0,
        max_message_bytes=2**20,
        certificates=None,
        proof_s=0.0,
        probe_share=math.inf,
    )
    yield client
    await client.close()
    await server.stop(0)


async def test_it_computes_on_the_release_named(models: TritonModels, triton: Doubling) -> None:
    with tracing.entry("a call"):
        outputs = await models.infer("double", INPUT, 1)
        assert triton.traces == [tracing.traceparent()]
    np.testing.assert_array_equal(outputs["y"], [[2.0, 4.0]])
    assert triton.versions == ["1"]


async def test_a_release_not_loaded_yet_may_be_asked_for_again(models: TritonModels) -> None:
    with pytest.raises(Unavailable, match="release 2"):
        await models.infer("double", INPUT, 2)


async def test_tensors_it_refuses_are_our_fault(models: TritonModels, triton: Doubling) -> None:
    triton.state = "refuses"
    with pytest.raises(RuntimeError, match="unexpected shape"):
        await models.infer("double", INPUT, 1)


async def test_an_output_without_data_is_unavailable(models: TritonModels, triton: Doubling) -> None:
    triton.state = "empty"
    with deadline_in(1.0), pytest.raises(Unavailable, match="no data"):
        await models.infer("double", INPUT, 1)


async def test_the_callers_deadline_bounds_a_hanging_model(models: TritonModels, triton: Doubling) -> None:
    triton.state = "hangs"
    begin = time.monotonic()
    with deadline_in(0.3), pytest.raises(DeadlineExceeded):
        await models.infer("double", INPUT, 1)
    assert time.monotonic() - begin < 2


async def test_the_clients_own_limit_bounds_a_hanging_model(triton: Doubling) -> None:
    triton.state = "hangs"
    server, port = await serve(triton)
    models = TritonModels(f"127.0.0.1:{port}", timeout_s=0.3, max_message_bytes=2**20, certificates=None)
    with pytest.raises(Unavailable, match="too long"):
        await models.infer("double", INPUT, 1)
    await models.close()
    await server.stop(0)


async def test_nobody_listening_is_unavailable_at_once() -> None:
    models = TritonModels("127.0.0.1:1", timeout_s=20.0, max_message_bytes=2**20, certificates=None)
    begin = time.monotonic()
    with pytest.raises(Unavailable, match="triton"):
        await models.infer("double", INPUT, 1)
    with pytest.raises(Unavailable, match="triton"):
        await models.check(["double"], 1)
    assert time.monotonic() - begin < 5
    await models.close()


async def test_a_restarted_triton_is_found_again(triton: Doubling) -> None:
    server, port = await serve(triton)
    models = TritonModels(f"127.0.0.1:{port}", timeout_s=5.0, max_message_bytes=2**20, certificates=None)
    await models.infer("double", INPUT, 1)
    await server.stop(0)
    with pytest.raises(Unavailable):
        await models.infer("double", INPUT, 1)
    server, _ = await serve(triton, port)
    for attempt in range(50):
        try:
            await models.infer("double", INPUT, 1)
            break
        except Unavailable:
            assert attempt < 49, "not found again within 5 s"
            await asyncio.sleep(0.1)
    await models.close()
    await server.stop(0)


async def test_work_that_has_begun_outlasts_a_restart(triton: Doubling) -> None:
    server, port = await serve(triton)
    models = TritonModels(f"127.0.0.1:{port}", timeout_s=1.0, max_message_bytes=2**20, certificates=None)
    await models.infer("double", INPUT, 1)
    await server.stop(0)
    with outlasting():
        call = asyncio.create_task(models.infer("double", INPUT, 1))
        not_loaded = asyncio.create_task(models.infer("double", INPUT, 9))
    with pytest.raises(Unavailable):  # what begins something is told at once
        await models.infer("double", INPUT, 1)
    await asyncio.sleep(1.5)  # longer than one inference may take
    assert not call.done()
    server, _ = await serve(triton, port)
    async with asyncio.timeout(20):
        np.testing.assert_array_equal((await call)["y"], [[2.0, 4.0]])
    assert not not_loaded.done()  # a server that has restarted loads its releases one by one
    not_loaded.cancel()
    await models.close()
    await server.stop(0)


async def test_work_that_has_begun_waits_no_longer_than_its_deadline() -> None:
    models = TritonModels("127.0.0.1:1", timeout_s=20.0, max_message_bytes=2**20, certificates=None)
    begin = time.monotonic()
    with deadline_in(0.6), outlasting(), pytest.raises((Unavailable, DeadlineExceeded)):
        await models.infer("double", INPUT, 1)
    assert 0.3 < time.monotonic() - begin < 5
    begin = time.monotonic()
    with deadline_in(30.0), impatient(), outlasting(), pytest.raises(Unavailable):  # there is another way
        await models.infer("double", INPUT, 1)
    assert time.monotonic() - begin < 5
    await models.close()


async def test_the_check_computes_one_real_sample(models: TritonModels, triton: Doubling) -> None:
    await models.check(["double"], 1)
    assert triton.batches == [1]


async def test_a_model_serves_while_one_of_its_instances_computes(
    models: TritonModels, triton: Doubling, caplog: pytest.LogCaptureFixture
) -> None:
    triton.dead = [False, False, False]
    await models.check(["double"], 1)
    assert triton.batches == [1, 1, 1], "each is asked"
    triton.dead = [True, False, True]
    for _ in range(6):
        await models.check(["double"], 1)
        outputs = await models.infer("double", INPUT, 1)
        np.testing.assert_array_equal(outputs["y"], [[2.0, 4.0]])
    triton.dead = [True, True, True]
    for _ in range(2):
        with pytest.raises(Unavailable, match="does not answer for double"):
            await models.check(["double"], 1)
    triton.dead = [False, False, False]
    for _ in range(5):
        assert len(caplog.records) == 1
        await models.check(["double"], 1)
    said = [record.getMessage() for record in caplog.records]
    assert [line.partition(": ")[2] for line in said] == [
        "an instance fails, calls go to the others",
        "all instances answer again",
    ]


async def test_an_instance_at_work_is_not_taken_for_a_dead_one(models: TritonModels, triton: Doubling) -> None:
    """Meanwhile the dead one takes all that comes, probes and calls."""
    triton.dead = [False, False]
    await models.check(["double"], 1)
    triton.dead[1], triton.hold = True, asyncio.Event()
    asked = len(triton.versions)
    calls = [asyncio.create_task(models.infer("double", INPUT, 1)) for _ in range(3)]
    async with asyncio.timeout(20):
        while len(triton.versions) < asked + 5:
            await asyncio.sleep(0.005)
        checking = asyncio.create_task(models.check(["double"], 1))
        while len(triton.versions) < asked + 12:
            await asyncio.sleep(0.005)
        assert not checking.done()
        triton.hold.set()
        await asyncio.gather(checking, *calls)


@pytest.mark.parametrize("instances", [1, 2])
async def test_a_call_waits_while_its_model_is_revived(models: TritonModels, triton: Doubling, instances: int) -> None:
    triton.dead = [False] * instances
    await models.check(["double"], 1)
    triton.dead = [True] * instances
    triton.versions.clear()
    call = asyncio.create_task(models.infer("double", INPUT, 1))
    async with asyncio.timeout(20):
        while len(triton.versions) < 8:
            await asyncio.sleep(0.005)
        with pytest.raises(Unavailable):
            await models.check(["double"], 1)
        assert not call.done()
        triton.dead = [False] * instances
        np.testing.assert_array_equal((await call)["y"], [[2.0, 4.0]])


async def test_a_call_of_a_model_that_stays_dead_ends_in_time(models: TritonModels, triton: Doubling) -> None:
    triton.dead = [True]
    begin = time.monotonic()
    with deadline_in(0.5), pytest.raises((Unavailable, DeadlineExceeded)):  # whichever the last attempt meets
        await models.infer("double", INPUT, 1)
    assert time.monotonic() - begin < 5
    assert len(triton.versions) < 50, "with pauses in between"


async def test_an_impatient_caller_does_not_wait_for_a_dead_model(models: TritonModels, triton: Doubling) -> None:
    triton.dead = [True]
    begin = time.monotonic()
    with deadline_in(30.0), impatient(), pytest.raises(Unavailable, match="does not answer for double"):
        await models.infer("double", INPUT, 1)
    assert time.monotonic() - begin < 3 and len(triton.versions) > 1
    triton.dead, triton.made, triton.idle = [True, False], 0, asyncio.Queue()
    with impatient():
        outputs = await models.infer("double", INPUT, 1)
    np.testing.assert_array_equal(outputs["y"], [[2.0, 4.0]])


@pytest.mark.parametrize(("instances", "probes"), [(1, 0), (2, 2)])
async def test_a_call_answered_proves_no_instance_but_its_own(triton: Doubling, instances: int, probes: int) -> None:
    triton.dead = [False] * instances
    server, port = await serve(triton)
    models = TritonModels(f"127.0.0.1:{port}", timeout_s=5.0, max_message_bytes=2**20, certificates=None, proof_s=60.0)
    await models.check(["double"], 1)
    models._evidence["double", 1].proven_until = 0.0  # as if long ago
    await models.infer("double", INPUT, 1)
    triton.batches.clear()
    await models.check(["double"], 1)
    assert len(triton.batches) == probes
    await models.close()
    await server.stop(0)


async def test_a_restarted_triton_is_asked_again_how_many_instances_it_has(
    models: TritonModels, triton: Doubling
) -> None:
    await models.check(["double"], 1)
    triton.state = "refuses"
    with pytest.raises(RuntimeError):
        await models.infer("double", INPUT, 1)
    triton.state, triton.dead = "works", [False, False]
    triton.batches.clear()
    await models.check(["double"], 1)
    assert triton.batches == [1, 1]


async def test_work_done_lately_is_proof_until_it_fails(triton: Doubling) -> None:
    server, port = await serve(triton)
    models = TritonModels(f"127.0.0.1:{port}", timeout_s=1.0, max_message_bytes=2**20, certificates=None, proof_s=60.0)
    await models.check(["double"], 1)
    assert triton.batches == [1]
    await models.infer("double", INPUT, 1)
    await models.check(["double"], 1)
    assert triton.batches == [1, 1]  # the probe's and the call's own
    triton.state = "hangs"
    with pytest.raises(Unavailable):
        await models.infer("double", INPUT, 1)
    with pytest.raises(Unavailable):
        await models.check(["double"], 1)
    await models.close()
    await server.stop(0)


async def test_while_an_instance_fails_no_proof_lasts_long(triton: Doubling) -> None:
    server, port = await serve(triton)
    models = TritonModels(
        f"127.0.0.1:{port}", timeout_s=5.0, max_message_bytes=2**20, certificates=None, probe_share=1e-6
    )
    triton.dead = [False, False]
    await models.check(["double"], 1)
    assert models._evidence["double", 1].proven_until > time.monotonic() + 60, "or this would not be the case at issue"
    triton.dead = [True, False]
    models._evidence["double", 1].proven_until = 0.0  # as if long ago
    await models.check(["double"], 1)

    async def until_it_fails() -> None:
        while True:
            await models.check(["double"], 1)
            await asyncio.sleep(0.05)

    triton.dead = [True, True]
    with pytest.raises(Unavailable, match="does not answer for double"):
        await asyncio.wait_for(until_it_fails(), 20)
    await models.close()
    await server.stop(0)


async def test_a_model_that_says_ready_but_hangs_fails_the_check(models: TritonModels, triton: Doubling) -> None:
    await models.check(["double"], 1)
    triton.state = "hangs"
    with pytest.raises((Unavailable, TimeoutError)):
        async with asyncio.timeout(0.5):
            await models.check(["double"], 1)


async def test_no_sample_is_computed_before_every_model_is_loaded(models: TritonModels, triton: Doubling) -> None:
    with pytest.raises(Unavailable, match="release 1 of loading"):
        await models.check(["double", "loading"], 1)
    await asyncio.sleep(0.1)
    assert triton.versions == []  # polled every two seconds for minutes, they would be in real work's way


async def test_the_check_wants_the_release_itself(models: TritonModels) -> None:
    with pytest.raises(Unavailable, match="release 2"):
        await models.check(["double"], 2)
