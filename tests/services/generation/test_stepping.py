"""The denoiser's calls: rounds share them, none pays for another's end, and full is told before anything is begun."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from contract import tracing
from services.generation.metrics import GenerationMetrics
from services.generation.orders import Queued
from services.generation.stepping import Denoiser, NoRoom, Turn
from services.runtime.deadlines import deadline_in
from services.runtime.errors import DeadlineExceeded, ResourceExhausted, Unavailable
from services.runtime.patience import outlasting
from services.runtime.triton import Array, Models, Tensors
from tests.spans import is_child, linked, recorded, trace_of


class Doubling(Models):
    """Twice the latents; each call waits until it is let through."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []  # (release, rows)
        self.let_through = asyncio.Semaphore(0)
        self.failures = 0
        self.ended_early = 0

    async def infer(self, model: str, inputs: Tensors, release: int) -> dict[str, Array]:
        assert model == "denoiser"
        self.calls.append((release, len(inputs["latents"])))
        try:
            await self.let_through.acquire()
        except asyncio.CancelledError:
            self.ended_early += 1
            raise
        if self.failures:
            self.failures -= 1
            raise Unavailable("triton", "does not answer for denoiser")
        return {"noise": 2 * inputs["latents"]}

    async def check(self, models: object, release: int) -> None: ...

    async def close(self) -> None: ...


class Studio:
    """A denoiser, and rounds of it."""

    def __init__(self, calls: int = 1, limit: int = 8, most_rows: int = 8) -> None:
        self.models = Doubling()
        self.registry = CollectorRegistry()
        self.denoiser = Denoiser(
            self.models, GenerationMetrics(self.registry),
            calls=calls, least_rows=1, most_rows=most_rows, quantum=100, limit=limit,
        )  # fmt: skip
        self.rounds = AsyncExitStack()

    async def turn(self, merchant: str = "ada", rows: int = 2, steps: int = 3) -> Turn:
        turn = await self.rounds.enter_async_context(self.denoiser.round(merchant, rows, steps))
        assert [queued async for queued in turn.queue()] == []
        return turn

    def counted(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)


def rows(*values: float) -> dict[str, Array]:
    return {"latents": np.array(values, np.float32)[:, None], "timestep": np.zeros((len(values), 1), np.int64)}


def step(turn: Turn, *values: float, release: int = 1) -> "asyncio.Task[Array]":
    return asyncio.create_task(turn.noise(rows(*values), release))


async def _fail(*_: object) -> bool:
    raise ZeroDivisionError


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.fixture
async def studio() -> AsyncIterator[Studio]:
    made = Studio()
    yield made
    await made.rounds.aclose()
    await made.denoiser.stop()


async def test_steps_that_wait_share_a_call_and_each_round_gets_its_own_rows(studio: Studio) -> None:
    first, *others = [step(await studio.turn(name), k, 10 * k) for k, name in enumerate(("ada", "bob", "cyd"), 1)]
    await settled()
    assert studio.models.calls == [(1, 6)], "all that was asked for in one turn of the loop"
    fourth = step(await studio.turn("dan"), 7)
    trial = step(await studio.turn("eve"), 8, release=2)
    await settled()
    studio.models.let_through.release()
    assert (await first).tolist() == [[2], [20]]
    assert [(await other).tolist() for other in others] == [[[4], [40]], [[6], [60]]]
    studio.models.let_through.release()
    studio.models.let_through.release()
    assert (await fourth).tolist() == [[14]] and (await trial).tolist() == [[16]]
    assert studio.models.calls == [(1, 6), (1, 1), (2, 1)]


async def test_a_lone_step_is_spread_over_all_calls_and_put_together_again() -> None:
    studio = Studio(calls=2)
    asked = step(await studio.turn(rows=5), 1, 2, 3, 4, 5)
    await settled()
    assert studio.models.calls == [(1, 3), (1, 2)]
    studio.models.let_through.release()
    await settled()
    assert not asked.done()
    studio.models.let_through.release()
    assert (await asked).tolist() == [[2], [4], [6], [8], [10]]


async def test_a_round_that_is_cancelled_takes_no_other_along_and_what_it_still_wanted_is_not_computed(
    studio: Studio,
) -> None:
    turns = [await studio.turn(name) for name in ("ada", "bob", "cyd")]
    kept, cancelled = step(turns[0], 1), step(turns[1], 2)
    await settled()
    waiting = step(turns[2], 3)
    await settled()
    for each in (cancelled, waiting):
        each.cancel()
    await settled()
    studio.models.let_through.release()
    assert (await kept).tolist() == [[2]]
    await settled()
    assert studio.models.calls == [(1, 2)]


async def test_a_call_that_computes_for_nobody_is_ended(studio: Studio) -> None:
    hanging = step(await studio.turn(), 1)
    await settled()
    hanging.cancel()
    await settled()
    assert studio.models.ended_early == 1
    studio.models.let_through.release()
    assert (await step(await studio.turn("bob"), 2)).tolist() == [[4]]


async def test_what_fails_a_call_fails_each_step_in_it_and_a_patient_round_asks_again(studio: Studio) -> None:
    async def outlast(turn: Turn) -> Array:
        with outlasting():
            return await turn.noise(rows(1), 1)

    studio.models.failures = 1
    patient = asyncio.create_task(outlast(await studio.turn("ada")))
    impatient = step(await studio.turn("bob"), 2)
    await settled()
    assert studio.models.calls == [(1, 2)]
    studio.models.let_through.release()
    with pytest.raises(Unavailable):
        await impatient
    studio.models.let_through.release()
    assert (await patient).tolist() == [[2]]


async def test_a_step_waits_no_longer_than_its_round_has_time(studio: Studio) -> None:
    with deadline_in(0.05), pytest.raises(DeadlineExceeded):
        await step(await studio.turn(), 1)


async def test_a_service_that_stops_ends_its_calls(studio: Studio) -> None:
    asked = step(await studio.turn(), 1)
    await settled()
    await studio.denoiser.stop()
    with pytest.raises(Unavailable, match="is stopping"):
        await asked


async def test_one_round_too_many_is_refused_and_told_when_to_come_back() -> None:
    studio = Studio(limit=2)
    for name in ("ada", "bob"):
        await studio.turn(name, rows=10, steps=10)
    studio.denoiser._schedule.rate = 50.0
    with pytest.raises(NoRoom, match="more than 2 rounds in flight") as refused:
        await studio.turn("cyd")
    with pytest.raises(NoRoom, match="more than 2"):
        studio.denoiser.check_room("cyd", 1, 1)
    assert 2.0 <= (refused.value.retry_after_s or 0) <= 4.0, "200 sample-steps at 50 a second"
    assert refused.value.why == "no place"
    assert studio.counted("perfusion_sample_steps_left") == 200
    assert studio.counted("perfusion_sample_step_seconds") == pytest.approx(0.02)
    await studio.rounds.aclose()
    assert studio.counted("perfusion_sample_steps_left") == 0


async def test_a_round_that_would_end_too_late_beside_the_others_is_refused() -> None:
    studio = Studio()
    studio.denoiser._schedule.rate = 50.0
    for name in ("first", "second"):
        with deadline_in(10.0):
            await studio.turn(name, rows=10, steps=10)
    with deadline_in(5.0):
        await studio.turn("small", rows=4, steps=10)
        with pytest.raises(NoRoom, match="too little time before the deadline") as refused:
            await studio.turn("late", rows=10, steps=10)
    assert refused.value.why == "no time"


async def test_rounds_that_come_at_once_count_with_each_other() -> None:
    studio = Studio()
    studio.denoiser._schedule.rate = 50.0
    with deadline_in(10.0):
        for name in ("first", "second", "third"):
            await studio.rounds.enter_async_context(studio.denoiser.round(name, 10, 10))
        with pytest.raises(ResourceExhausted, match="too little time before the deadline"):
            await studio.rounds.enter_async_context(studio.denoiser.round("fourth", 10, 11))


async def test_a_round_that_another_release_begins_anew_has_all_its_steps_before_it(studio: Studio) -> None:
    studio.models.let_through = asyncio.Semaphore(100)
    turn = await studio.turn(rows=2, steps=3)
    await turn.noise(rows(1, 2), 1)
    assert studio.counted("perfusion_sample_steps_left") == 4
    assert [queued async for queued in turn.queue()] == []
    assert studio.counted("perfusion_sample_steps_left") == 6
    for _ in range(3):
        await turn.noise(rows(1, 2), 2)
    assert studio.counted("perfusion_sample_steps_left") == 0


async def test_a_lone_round_may_take_whatever_time_there_is(studio: Studio) -> None:
    studio.denoiser._schedule.rate = 1.0
    with deadline_in(3.0):
        await studio.turn("alone", rows=10, steps=10)


async def test_a_round_in_the_queue_is_told_its_place_each_time_that_it_moves() -> None:
    studio = Studio(most_rows=2)
    studio.denoiser._schedule.rate = 10.0
    begun = [await studio.rounds.enter_async_context(studio.denoiser.round("ada", 2, 5)) for _ in range(3)]
    told: list[list[Queued]] = [[] for _ in begun]

    async def wait(k: int) -> None:
        async for queued in begun[k].queue():
            told[k].append(queued)

    waiting = [asyncio.create_task(wait(k)) for k in range(3)]
    await settled()
    assert [task.done() for task in waiting] == [True, False, False]
    begun[0].leave()
    await waiting[1]
    await settled()
    begun[1].leave()
    await waiting[2]
    assert told == [[], [Queued(1, 1.0)], [Queued(2, 2.0), Queued(1, 1.0)]]


async def test_sample_steps_are_counted_by_whether_their_round_was_delivered(studio: Studio) -> None:
    studio.models.let_through = asyncio.Semaphore(100)
    async with studio.denoiser.round("ada", 2, 2) as turn:
        assert [queued async for queued in turn.queue()] == []
        await turn.noise(rows(1, 2), 1)
        await turn.noise(rows(1, 2), 1)
    async with AsyncExitStack() as failing:
        turn = await failing.enter_async_context(studio.denoiser.round("ada", 2, 2))
        assert [queued async for queued in turn.queue()] == []
        await turn.noise(rows(1, 2), 1)
        failing.push_async_exit(_fail)
        with pytest.raises(ZeroDivisionError):
            await failing.aclose()
    assert studio.counted("perfusion_sample_steps_total", outcome="delivered") == 4
    assert studio.counted("perfusion_sample_steps_total", outcome="in vain") == 2


async def test_a_call_of_several_rounds_is_in_one_rounds_trace_and_linked_with_the_others(studio: Studio) -> None:
    def traceparent(number: int) -> str:
        return f"00-{number:032x}-00f067aa0ba902b7-01"

    async def traced(number: int, turn: Turn) -> Array:
        with tracing.entry("round", [traceparent(number)]):
            return await turn.noise(rows(number), 1)

    with recorded() as spans:
        turns = [await studio.turn(name) for name in ("ada", "bob", "cyd")]
        asked = [asyncio.create_task(traced(number, turn)) for number, turn in enumerate(turns, 1)]
        await settled()
        studio.models.let_through.release()
        assert [(await each).tolist() for each in asked] == [[[2]], [[4]], [[6]]]
        call, steps = spans.one("denoiser call"), spans.named("denoise")
    assert dict(call.attributes or {}) == {"perfusion.rounds": 3, "perfusion.rows": 3}
    traces = {f"{number:032x}" for number in (1, 2, 3)}
    assert linked(call) == traces - {trace_of(call)}
    [own] = [step for step in steps if trace_of(step) == trace_of(call)]
    assert is_child(call, own) and not own.links
    assert all(linked(step) == {trace_of(call)} for step in steps if step is not own)
