"""What spans say of calls: of one that is served, of one that goes on to another service, and of no person."""

import pytest
from opentelemetry.trace import SpanKind, StatusCode
from perfusion.v1 import generation_service_pb2 as pb_generation
from perfusion.v1 import ranking_service_pb2 as pb
from perfusion.v1.generation_service_pb2_grpc import GenerationServiceStub
from perfusion.v1.ranking_service_pb2_grpc import RankingServiceStub
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.exposition import generate_latest

from services.runtime import errors
from services.runtime.clients import call, check_serving
from tests.services.running import failing, running
from tests.services.runtime.answering import Answering, server_of
from tests.services.runtime.scripted import SERVICE, server_doing
from tests.spans import SAMPLED, TRACE, is_child, recorded, trace_of

RANK = "perfusion.v1.RankingService/Rank"
GET = "perfusion.v1.GenerationService/GetGroup"
CALLER = (("traceparent", SAMPLED),)


async def test_a_trace_goes_through_two_services() -> None:
    async with running(server_doing()) as ranking:
        stub = RankingServiceStub(ranking)

        async def rank() -> None:
            await call(stub.Rank, pb.RankRequest(), name="ranking service", timeout_s=30.0)

        with recorded() as spans:
            async with running(server_doing(rank)) as channel:
                await RankingServiceStub(channel).Rank(pb.RankRequest(), metadata=CALLER)
            inner, outer = sorted(spans.named(RANK), key=lambda span: span.end_time or 0)
            client = spans.one("ranking service: Rank")
    assert trace_of(outer) == TRACE and is_child(client, outer) and is_child(inner, client)
    assert [span.kind for span in (outer, client, inner)] == [SpanKind.SERVER, SpanKind.CLIENT, SpanKind.SERVER]
    assert outer.attributes == {"rpc.system.name": "grpc", "rpc.method": RANK, "rpc.response.status_code": "OK"}
    assert client.attributes == {"rpc.system.name": "grpc", "service.peer.name": "ranking service"}


@pytest.mark.parametrize(
    ("error", "code", "is_fault"),
    [
        (errors.NotFound("no user ada", field="user_id"), "NOT_FOUND", False),
        (errors.Unavailable("triton"), "UNAVAILABLE", True),
        (RuntimeError("password=hunter2"), "INTERNAL", True),
    ],
)
async def test_a_span_says_how_its_call_ended(error: Exception, code: str, is_fault: bool) -> None:
    async def fail() -> None:
        raise error

    with recorded() as spans:
        async with running(server_doing(fail)) as channel, failing() as failure:
            await RankingServiceStub(channel).Rank(pb.RankRequest(), metadata=CALLER)
        served = spans.one(RANK)
    assert failure.trace_id == TRACE, "as before: what people ask for help with"
    assert served.attributes is not None and served.attributes["rpc.response.status_code"] == code
    assert served.status.status_code is (StatusCode.ERROR if is_fault else StatusCode.UNSET)
    assert not served.events and "hunter2" not in served.to_json() and "ada" not in served.to_json()


async def test_a_span_has_a_calls_ids_cut_short_and_no_user() -> None:
    servicer = Answering()
    with recorded() as spans:
        async with running(server_of(servicer)) as channel:
            stub = GenerationServiceStub(channel)
            await stub.GetGroup(pb_generation.GetGroupRequest(group_id="g" * 1000), metadata=CALLER)
            asked = pb_generation.ListGroupsRequest(user_id="ada@example.com")
            async with failing():
                await stub.ListGroups(asked, metadata=CALLER)
        served = spans.all()
    assert served[0].attributes is not None and served[0].attributes["perfusion.group_id"] == "g" * 64
    assert "ada@example.com" not in "".join(span.to_json() for span in served)


async def test_what_polls_and_what_nobody_records_leaves_no_span() -> None:
    with recorded(share=1e-9) as spans:
        async with running(server_doing()) as channel:
            await check_serving(channel, "", name="ranking service", timeout_s=30.0)
            await RankingServiceStub(channel).Rank(pb.RankRequest())
        assert spans.all() == []


async def test_a_latency_names_a_trace_that_is_recorded() -> None:
    registry = CollectorRegistry()
    with recorded():
        async with running(server_of(Answering(), registry)) as channel:
            await GenerationServiceStub(channel).GetGroup(pb_generation.GetGroupRequest(), metadata=CALLER)
        shown = generate_latest(registry).decode()
    assert f'# {{trace_id="{TRACE}"}}' in shown
    assert 'perfusion_spans_total{outcome="dropped"} 0.0' in shown
    assert "perfusion_spans_total{" not in generate_latest(registry).decode(), "nothing is recorded any more"


async def test_a_call_without_a_method_is_no_name_of_the_callers() -> None:
    with recorded() as spans:
        async with running(server_doing()) as channel, failing():
            await channel.unary_unary(f"/{SERVICE}/Drop?name=ada")(b"", metadata=CALLER)
        assert [span.name for span in spans.all()] == ["unknown"]
