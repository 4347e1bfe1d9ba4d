"""The spans of a round: one trace from the caller to Kafka, each denoising step in it, and nothing of who asked."""

from opentelemetry.trace import SpanKind

from tests.services.generation.conftest import Studio, request
from tests.services.running import failing
from tests.spans import SAMPLED, TRACE, is_child, recorded, trace_of

GENERATE = "perfusion.v1.GenerationService/Generate"


async def test_a_round_is_one_trace_from_its_caller_to_kafka(studio: Studio) -> None:
    asked = request(num_candidates=3, num_steps=4)
    with recorded() as spans:
        await studio.stream(asked, metadata=(("traceparent", SAMPLED),))
        found = spans.all()
        served, steps = spans.one(GENERATE), spans.named("denoise")
    assert {trace_of(span) for span in found} == {TRACE}
    for name in ("claim", "denoise", "decode", "rank", "store pictures", "store group", "announce"):
        assert all(is_child(span, served) for span in found if span.name == name), name
    assert [dict(step.attributes or {}) for step in steps] == [
        {"perfusion.rows": 3, "perfusion.release": 1, "perfusion.step": number} for number in (1, 2, 3, 4)
    ]
    calls = spans.named("denoiser call")
    assert all(is_child(call, step) for call, step in zip(calls, steps, strict=True))
    [event] = studio.events.published
    publish = spans.one(f"publish {event.topic}")
    assert publish.kind is SpanKind.PRODUCER and is_child(publish, spans.one("store group"))
    assert publish.context is not None and f"-{publish.context.span_id:016x}-01" in (event.traceparent or "")
    assert served.attributes is not None and served.attributes["perfusion.request_id"] == asked.request_id


async def test_spans_say_neither_who_asked_nor_for_what(studio: Studio) -> None:
    known, unknown = "ada-of-the-old-mill", "bob-of-the-old-mill"
    studio.users.known.add(known)
    asked = request(user_id=known, prompt="secretive,dress", negative_prompt="blurred-mauve")
    with recorded() as spans:
        await studio.stream(asked)
        await studio.stream(asked)
        async with failing() as failure:
            await studio.stream(request(user_id=unknown))
        said = "".join(span.to_json() for span in spans.all())
    assert asked.request_id in said and unknown in failure.message
    for private in (known, unknown, "secretive", "blurred-mauve"):
        assert private not in said


async def test_without_a_setting_nothing_is_recorded_and_the_event_is_in_the_callers_trace(studio: Studio) -> None:
    await studio.stream(request(), metadata=(("traceparent", SAMPLED),))
    [event] = studio.events.published
    assert event.traceparent == SAMPLED
