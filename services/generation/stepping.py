"""Denoising steps of all rounds, packed into calls of the denoiser: who may begin, and whose step goes next.

Which rows go into a call is scheduling.py's to say; here are the calls, their failures, the clock, and what the rounds
themselves show of the denoiser's speed. It does not know what else a round does.

A call belongs to no round: it goes on when one of its rounds is cancelled, and has the deadline of none. What fails a
call fails each of its steps, and each round asks again by its own patience (services.runtime.patience).
"""

import asyncio
import contextvars
import math
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind

from contract import tracing
from services.generation.metrics import GenerationMetrics
from services.generation.orders import Queued
from services.generation.samplers import Latents
from services.generation.scheduling import UNKNOWN_RATE, Job, Schedule, Step, Taken
from services.runtime.deadlines import remaining_s
from services.runtime.errors import DeadlineExceeded, ResourceExhausted, Unavailable
from services.runtime.patience import asked_again, impatient
from services.runtime.triton import Models, Tensors

MODEL = "denoiser"
_TAIL_WEIGHT = 0.2  # of the newest round, in how long rounds take after their last step
_RATE_S = 5.0  # of work that the rate remembers
_TRUSTED_S = 1.0  # of work before the rate is believed: the first calls after a start are slow
# Of the time until all under way is done: who was refused does not come back with all others.
_JITTER = (0.5, 1.0)


class NoRoom(ResourceExhausted):
    """A round is not admitted; `why` is the metric's label."""

    def __init__(self, message: str, why: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.why = why
        self.retry_after_s = retry_after_s


@dataclass(eq=False)
class _Asked(Step):
    """A step with its tensors, and the round that waits for it."""

    inputs: Tensors = field(default_factory=dict)
    span: Span = INVALID_SPAN
    answer: "asyncio.Future[Latents]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())
    noise: Latents | None = None  # as far as it is computed
    computed: int = 0  # rows


class Denoiser:
    """The denoiser, shared by all rounds of this process.

    Args:
        calls, least_rows, most_rows, quantum: as in scheduling.Schedule.
        limit: of rounds, under way and in the queue together.
    """

    def __init__(
        self,
        models: Models,
        metrics: GenerationMetrics,
        *,
        calls: int,
        least_rows: int,
        most_rows: int,
        quantum: int,
        limit: int,
    ) -> None:
        self._models, self._metrics = models, metrics
        self._most_calls, self._limit = calls, limit
        self._schedule = Schedule(calls, least_rows, most_rows, quantum)
        self._speed = _Speed()
        self._tail_s = 0.0
        self._rounds = 0
        self._calls: dict[asyncio.Task[int], list[Taken]] = {}
        self._filling: asyncio.Handle | None = None
        self._moved = asyncio.Event()  # replaced each time that the queue has moved
        metrics.sample_steps_left.set_function(lambda: self._schedule.left)
        metrics.sample_step_s.set_function(lambda: 1 / self._schedule.rate)

    @asynccontextmanager
    async def round(self, merchant: str, rows: int, steps: int) -> AsyncIterator["Turn"]:
        """A place for a round of so many candidates and denoising steps, from its admission to its end.

        Raises:
            NoRoom: there is none, or the rounds before it leave too little time before its deadline.
        """
        job = self._admitted(merchant, rows, steps)
        turn = Turn(self, job)
        turn.enter()  # at once, so that the next one to be admitted counts with it
        self._rounds += 1
        delivered = False
        try:
            yield turn
            delivered = True
        finally:
            self._rounds -= 1
            turn.leave()
            self._metrics.sample_steps.labels("delivered" if delivered else "in vain").inc(turn.computed)
            if delivered and turn.ended_at is not None:
                self._tail_s += _TAIL_WEIGHT * (time.monotonic() - turn.ended_at - self._tail_s)

    async def stop(self) -> None:
        """Ends the calls; rounds that wait for one hear Unavailable."""
        for task in list(self._calls):
            task.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    def _ends_at(self) -> float:
        left_s = remaining_s(math.inf)
        return math.inf if left_s == math.inf else time.monotonic() + left_s - self._tail_s

    def check_room(self, merchant: str, rows: int, steps: int) -> None:
        """Raises NoRoom where `round` would raise it now."""
        self._admitted(merchant, rows, steps)

    def _admitted(self, merchant: str, rows: int, steps: int) -> Job:
        """A round that is not the only one is asked for its time: that one has whatever there is."""
        job = Job(merchant, rows * steps, rows, self._ends_at())
        if self._rounds >= self._limit:
            raise self._refused(f"more than {self._limit} rounds in flight", "no place")
        if self._rounds and not self._schedule.has_time_for(job, time.monotonic()):
            raise self._refused("the rounds in flight leave too little time before the deadline", "no time")
        return job

    def _refused(self, message: str, why: str) -> NoRoom:
        busy_s = self._schedule.left / self._schedule.rate + self._tail_s
        return NoRoom(message, why, max(0.1, busy_s * random.uniform(*_JITTER)))

    # --- of a turn --------------------------------------------------------------------------------------------------

    def enter(self, job: Job) -> None:
        self._schedule.enter(job)
        self._advance_queue()

    def leave(self, job: Job) -> None:
        self._schedule.leave(job)
        self._advance_queue()
        self._fill_soon()

    def _advance_queue(self) -> None:
        self._schedule.begin()
        self._moved.set()
        self._moved = asyncio.Event()

    async def queue(self, job: Job) -> AsyncGenerator[Queued]:
        """The place of a round each time that it changes, until it begins."""
        told = 0
        while position := self._schedule.position(job):
            if position != told:
                yield Queued(position, self._schedule.ahead_of(job) / self._schedule.rate)
                told = position
            else:
                await self._moved.wait()

    async def ask(self, job: Job, inputs: Tensors, release: int) -> Latents:
        """One step of some rows of a round; Unavailable where its call fails, DeadlineExceeded when its time is up."""
        rows = len(inputs["latents"])
        told = {"perfusion.rows": rows, "perfusion.release": release, "perfusion.step": job.step}
        with tracing.span("denoise", told) as span:
            return await self._answer(_Asked(job, release, rows, inputs=inputs, span=span))

    async def _answer(self, step: _Asked) -> Latents:
        self._schedule.add(step)
        self._fill_soon()
        limit_s = remaining_s(math.inf)
        try:
            async with asyncio.timeout(None if limit_s == math.inf else limit_s):
                return await step.answer
        except TimeoutError:
            raise DeadlineExceeded from None
        finally:
            self._schedule.drop(step)
            step.answer.cancel()
            self._end_idle_calls()

    # --- calls ------------------------------------------------------------------------------------------------------

    def _fill_soon(self) -> None:
        """Once all that runs in this turn of the loop has said what it wants."""
        if self._filling is None:
            self._filling = asyncio.get_running_loop().call_soon(self._fill, context=contextvars.Context())

    def _fill(self) -> None:
        self._filling = None
        while (idle := self._most_calls - len(self._calls)) > 0:
            taken = self._schedule.take(idle)
            if not taken:
                return
            if not self._calls:
                self._speed.begins()
            task = asyncio.create_task(self._call(taken), name="denoise", context=contextvars.Context())
            self._calls[task] = taken
            task.add_done_callback(self._called)

    def _called(self, task: "asyncio.Task[int]") -> None:
        taken = self._calls.pop(task)
        rows = 0 if task.cancelled() else task.result()
        self._schedule.rate = self._speed.ends(rows)
        for step in _steps(taken) if task.cancelled() else ():
            if not step.answer.done():
                step.answer.set_exception(Unavailable("service", "is stopping"))
        self._fill_soon()

    async def _call(self, taken: Sequence[Taken]) -> int:
        """Computes the rows and hands them out; how many there are, 0 where it fails.

        Its span is in one round's trace. It has links to the others, and their steps have links to it.
        """
        steps = _steps(taken)
        came = [tracing.traceparent(step.span) for step in steps]
        told = {"perfusion.rounds": len(steps), "perfusion.rows": sum(each.end - each.first for each in taken)}
        with tracing.entry("denoiser call", came, kind=SpanKind.INTERNAL, attributes=told) as span:
            own = span.get_span_context()
            for step in steps:
                if step.span.get_span_context().trace_id != own.trace_id:
                    step.span.add_link(own)
            return await self._compute(taken, steps)

    async def _compute(self, taken: Sequence[Taken], steps: "Sequence[_Asked]") -> int:
        inputs = _joined([(step.inputs, each) for step, each in zip(steps, taken, strict=True)])
        self._metrics.call_rows.observe(len(inputs["latents"]))
        try:
            with impatient():
                noise = (await self._models.infer(MODEL, inputs, steps[0].shares))["noise"]  # type: ignore[arg-type]
        except Exception as error:
            for step in steps:
                self._schedule.drop(step)  # the rows that no call has yet
                if not step.answer.done():
                    step.answer.set_exception(error)
            return 0
        first = 0
        for step, each in zip(steps, taken, strict=True):
            rows = each.end - each.first
            self._hand_out(step, each, noise[first : first + rows])
            first += rows
        return first

    def _hand_out(self, step: _Asked, taken: Taken, noise: Latents) -> None:
        if step.noise is None:
            step.noise = np.empty((step.rows, *noise.shape[1:]), noise.dtype)
        step.noise[taken.first : taken.end] = noise
        step.computed += taken.end - taken.first
        if step.computed == step.rows and not step.answer.done():
            step.answer.set_result(step.noise)

    def _end_idle_calls(self) -> None:
        """Ends calls that compute for nobody any more; one may hang."""
        for task, taken in self._calls.items():
            if all(step.answer.done() for step in _steps(taken)):
                task.cancel()


@dataclass(eq=False)
class Turn:
    """One round's use of the denoiser."""

    denoiser: Denoiser
    job: Job
    computed: int = 0  # sample-steps
    ended_at: float | None = None  # when its last step was done
    _is_in: bool = False

    def enter(self) -> None:
        """From its first step on: anew where another release had begun it."""
        if self._is_in and self.job.left == self.job.sample_steps:
            return
        self.leave()
        self.job = Job(self.job.merchant, self.job.sample_steps, self.job.rows, self.job.ends_at)
        self.denoiser.enter(self.job)
        self._is_in = True

    async def queue(self) -> AsyncGenerator[Queued]:
        """The round's place each time that it changes; ends when the first step may begin."""
        self.enter()
        async with aclosing(self.denoiser.queue(self.job)) as places:
            async for queued in places:
                yield queued

    async def noise(self, inputs: Tensors, release: int) -> Latents:
        """The noise in some of the round's candidates at one step, asked again by the round's own patience."""
        noise = await asked_again(lambda: self.denoiser.ask(self.job, inputs, release), None, math.inf)
        self.computed += len(noise)
        self.job.left = max(0, self.job.left - len(noise))
        if not self.job.left:
            self.ended_at = time.monotonic()
            self.leave()
        return noise

    def leave(self) -> None:
        """The denoiser is free for others."""
        if self._is_in:
            self._is_in = False
            self.denoiser.leave(self.job)


@dataclass
class _Speed:
    """Sample-steps a second while the denoiser works, of the last seconds of work."""

    rows: float = 0.0
    busy_s: float = 0.0
    believed: float = UNKNOWN_RATE
    _since: float = 0.0

    def begins(self) -> None:
        """The first call after there was none."""
        self._since = time.monotonic()

    def ends(self, rows: int) -> float:
        """A call that has computed so many rows; the rate of late."""
        now = time.monotonic()
        passed_s, self._since = now - self._since, now
        if not rows:  # it failed, which says nothing of the speed
            return self.believed
        kept = math.exp(-passed_s / _RATE_S)
        self.rows = kept * self.rows + rows
        self.busy_s = kept * self.busy_s + passed_s
        if self.busy_s >= _TRUSTED_S:
            self.believed = self.rows / self.busy_s
        return self.believed


def _steps(taken: Sequence[Taken]) -> list[_Asked]:
    return [each.step for each in taken if isinstance(each.step, _Asked)]


def _joined(parts: Sequence[tuple[Tensors, Taken]]) -> Mapping[str, Any]:
    """The call's tensors: those rows of each step's, one after the other."""
    return {
        name: np.concatenate([inputs[name][taken.first : taken.end] for inputs, taken in parts]) for name in parts[0][0]
    }
