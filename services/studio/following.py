"""A round belongs to the merchant, not to the page that began it: one task a round, any number of readers.

What a round has come to is a state with a number, and each event makes the next one. A reader asks for whatever comes
after the number that it has seen, so it may come, go and come back; one that is slow skips states and never misses the
last. States are in memory where the round runs and, at most half a second older, in the store, by which readers at
other replicas follow. A round whose replica has gone is taken over by another, which asks the generation service for
the same request id again: the service gives the group that there is, or draws it anew from the same seeds.

It knows no HTTP, gRPC or SQL.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry.trace import SpanKind
from perfusion.v1.generation_service_pb2 import GenerateRequest, GenerateResponse
from perfusion.v1.group_pb2 import Group

from contract import tracing
from services.runtime import leases
from services.runtime.clock import Clock
from services.runtime.errors import (
    AlreadyExists,
    DeadlineExceeded,
    NotFound,
    RetryableError,
    ServiceError,
    Unavailable,
)
from services.runtime.statuses import reason_of

if TYPE_CHECKING:
    from services.studio.ports import FollowedRounds, Platform

ASKED, QUEUED, DRAWING, RANKING = "asked", "queued", "drawing", "ranking"
WAITING = "waiting"  # for a part of the platform that does not answer
DONE, FAILED, CANCELLED = "done", "failed", "cancelled"
OVER = (DONE, FAILED, CANCELLED)

SAVE_S = 0.4  # between two writes of a state
BEAT_S = 2.0  # a holder's longest pause between two signs of life; a quarter of a short lease
LOOK_S = 0.4  # between two looks of a reader at another replica's round
TAKE_OVER_S = 1.0  # between two looks for rounds whose holder has gone
PATIENCE_S = 15.0  # a reader hears something at least so often, the same state again
LEAP = 1000  # of a state's number when another holder goes on: the one before may have told states that it never stored
KEPT_US = 7 * 86_400_000_000  # how long a round that is over can be looked up by its request id

Found = TypeVar("Found")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Asked:
    """A round as the merchant asked for it."""

    request: GenerateRequest
    create_time_us: int

    @property
    def request_id(self) -> str:
        return self.request.request_id

    @property
    def user_id(self) -> str:
        return self.request.user_id


@dataclass(frozen=True)
class State:
    """What a round has come to. `problems` are the wrong fields of a request, with what is wrong."""

    number: int = 0
    stage: str = ASKED
    step: int = 0
    num_steps: int = 0
    position: int = 0  # in the queue
    wait_s: float = 0.0
    group_id: str = ""
    reason: str = ""  # why it waits or failed, by the name in error_reason.proto
    problems: tuple[tuple[str, str], ...] = ()
    num_previews: int = 0
    previews_number: int = 0  # the state that brought them
    previews: tuple[bytes, ...] = ()  # the last ones; empty where a state is read without them

    @property
    def is_over(self) -> bool:
        return self.stage in OVER

    def plain(self) -> dict[str, Any]:
        """All but the previews, as JSON has it."""
        return {name: getattr(self, name) for name in _PLAIN} | {"problems": [list(each) for each in self.problems]}

    @classmethod
    def of(cls, plain: Mapping[str, Any], previews: tuple[bytes, ...] = ()) -> "State":
        """What `plain` gave."""
        problems = tuple((str(name), str(problem)) for name, problem in plain["problems"])
        known = {name: plain[name] for name in _PLAIN}
        return cls(**known, problems=problems, previews=previews)


_PLAIN = (
    "number",
    "stage",
    "step",
    "num_steps",
    "position",
    "wait_s",
    "group_id",
    "reason",
    "num_previews",
    "previews_number",
)


@dataclass(frozen=True)
class Followed:
    """A round in the store: `holder` runs it and counts its `beats`."""

    asked: Asked
    state: State
    holder: str
    beats: int


@dataclass(frozen=True)
class Running:
    """A round that is not over, as a list has it: without pictures."""

    request_id: str
    user_id: str
    prompt: str
    holder: str
    beats: int


def after(state: State, response: GenerateResponse) -> State:
    """The state that a message of Generate's stream leads to."""
    number = state.number + 1
    match response.WhichOneof("event"):
        case "queued":
            queued = response.queued
            wait_s = queued.expected_wait.ToTimedelta().total_seconds()
            return replace(state, number=number, stage=QUEUED, position=queued.position, wait_s=wait_s, reason="")
        case "progress":
            told = response.progress
            stage = RANKING if told.step >= told.num_steps else DRAWING
            state = replace(
                state, number=number, stage=stage, step=told.step, num_steps=told.num_steps, reason="", position=0
            )
            if not told.previews:
                return state
            previews = tuple(told.previews)
            return replace(state, previews=previews, num_previews=len(previews), previews_number=number)
        case "group":
            return replace(state, number=number, stage=DONE, group_id=response.group.group_id, reason="")
    return state


class _Live:
    """A round that runs here."""

    def __init__(self, asked: Asked, state: State) -> None:
        self.asked = asked
        self.state = state
        self.changed = asyncio.Event()  # another one after each change

    def become(self, state: State) -> None:
        self.state = state
        self.changed.set()
        self.changed = asyncio.Event()


class Following:
    """This replica's rounds, and everybody's readers.

    Args:
        timeout_s: for a round, tries included.
        lease_s: how long another replica's round may be silent before it is taken over.
        most: rounds of one merchant at once.
        on_group: hears of each group that was drawn here, with its pictures.
    """

    def __init__(
        self,
        platform: "Platform",
        store: "FollowedRounds",
        clock: Clock,
        *,
        timeout_s: float,
        lease_s: float,
        most: int,
        on_group: Callable[[Group], object] = lambda group: None,
    ) -> None:
        self._platform = platform
        self._store = store
        self._clock = clock
        self._timeout_s = timeout_s
        self._most = most
        self._on_group = on_group
        self._watch = leases.Watch(lease_s)
        self._beat_s = min(BEAT_S, lease_s / 4)
        self._holder = leases.new_token()
        self._live: dict[str, _Live] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self.readers = 0  # who watch now

    async def begin(self, request: GenerateRequest) -> None:
        """Runs a round, which `watch` follows; one that is known already goes on as it is.

        Raises:
            ResourceExhausted: the merchant has so many rounds already.
            NotFound: the request id is another merchant's.
            AlreadyExists: the request id is another round's of the merchant's.
            Unavailable: the store does not answer, or the studio is stopping.
        """
        if self._stopping.is_set():
            raise Unavailable("studio", "is stopping")
        asked = Asked(request, self._clock())
        stored, is_new = await self._store.add(asked, State(), self._holder, self._most)
        if stored.asked.user_id != request.user_id:
            raise NotFound("request_id: there is no such round", field="request_id")
        if not is_new and _content(stored.asked.request) != _content(request):
            raise AlreadyExists("this form was sent before with other content: load it again")
        if is_new and self._stopping.is_set():
            await self._store.give_up([asked.request_id], self._holder)
        elif is_new:
            self._run(stored)

    async def look(self, user_id: str, request_id: str) -> Followed:
        """A round with its pictures; NotFound for another merchant's and for one that never was."""
        if (live := self._live.get(request_id)) is not None and live.asked.user_id == user_id:
            return Followed(live.asked, live.state, self._holder, 0)
        return _there(await self._store.get(user_id, request_id))

    async def state(self, user_id: str, request_id: str) -> State:
        """What a round has come to, without pictures if it runs elsewhere; NotFound as `look`."""
        if (live := self._live.get(request_id)) is not None and live.asked.user_id == user_id:
            return live.state
        return _there(await self._store.state(user_id, request_id))

    async def watch(self, user_id: str, request_id: str, seen: int) -> AsyncGenerator[State]:
        """Every state after the one of this number, from now on; ends with the last, and when the studio stops."""
        self.readers += 1
        try:
            async with aclosing(self._states(user_id, request_id, seen)) as states:
                async for state in states:
                    yield state
        finally:
            self.readers -= 1

    async def _states(self, user_id: str, request_id: str, seen: int) -> AsyncGenerator[State]:
        told_at = time.monotonic()
        while not self._stopping.is_set():
            live = self._live.get(request_id)
            changed = live.changed if live is not None else None
            state = await self.state(user_id, request_id)
            if seen > state.number + LEAP:  # of no state that there was
                seen = -1
            is_late = time.monotonic() - told_at > PATIENCE_S
            if state.number > seen or state.is_over or is_late:
                yield state
                seen, told_at = max(seen, state.number), time.monotonic()
                if state.is_over:
                    return
            if changed is None:
                await asyncio.sleep(LOOK_S)
            else:
                await _within(changed, PATIENCE_S)

    async def running(self, user_id: str) -> Sequence[Running]:
        """The merchant's rounds that are not over, the last first."""
        return await self._store.running(user_id)

    async def end(self, user_id: str, request_id: str) -> None:
        """Ends a round of the merchant's, wherever it runs; NotFound as `state`."""
        if not (await self.state(user_id, request_id)).is_over:
            await self._store.ask_to_end(user_id, request_id)

    async def take_over(self) -> None:
        """Goes on with rounds whose replica has gone, again and again, until it is cancelled."""
        while True:
            try:
                running = {each.request_id: each for each in await self._store.running()}
                self._watch.keep(running)
                for request_id, found in running.items():
                    if request_id not in self._live and self._has_gone(found):
                        await self._take(found)
                await self._store.forget(self._clock() - KEPT_US)
            except ServiceError as error:
                self._watch.keep(())  # while nobody could look, nobody was seen to be silent
                _log.warning("cannot look for rounds that nobody runs: %s", error)
            except Exception:  # a fault of ours: the next look may do without it
                _log.exception("cannot look for rounds that nobody runs")
            await asyncio.sleep(TAKE_OVER_S)

    async def stop(self) -> None:
        """Readers end; rounds are left to another replica, or to this one's next start."""
        self._stopping.set()
        for live in self._live.values():
            live.changed.set()
        held = list(self._live)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if held:
            try:
                await self._store.give_up(held, self._holder)
            except ServiceError as error:  # then others wait for the lease's end
                _log.warning("could not give up %d rounds: %s", len(held), error)

    def _has_gone(self, found: Running) -> bool:
        return not found.holder or self._watch.has_expired(found.request_id, found.holder, found.beats)

    async def _take(self, found: Running) -> None:
        try:
            taken = await self._store.take(found, self._holder)
        except ServiceError:
            raise
        except Exception:  # such as a row that another version wrote: the other rounds must not wait for it
            _log.exception("cannot go on with a round", extra={"request_id": found.request_id})
            return
        if taken is not None:
            _log.info("went on with a round", extra={"request_id": found.request_id})
            self._run(replace(taken, state=replace(taken.state, number=taken.state.number + LEAP)))

    def _run(self, found: Followed) -> None:
        live = self._live[found.asked.request_id] = _Live(found.asked, found.state)
        task = asyncio.create_task(self._traced(live), name="round")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _traced(self, live: _Live) -> None:
        """In the trace of the page that began it; what is taken over begins one."""
        told = {"perfusion.request_id": live.asked.request_id}
        with tracing.entry("round", [tracing.traceparent()], kind=SpanKind.INTERNAL, attributes=told):
            await self._hold(live)

    async def _hold(self, live: _Live) -> None:
        """Draws, and stores what the round comes to, until that is stored to its end."""
        drawing = asyncio.create_task(self._draw(live), name="draw")
        try:
            while True:
                changed, state = live.changed, live.state
                told = await self._saved(live.asked, state)
                if told is None:
                    return
                if state.is_over:
                    return
                if told and not drawing.done():
                    drawing.cancel()
                    await asyncio.wait({drawing})
                    if not live.state.is_over:
                        live.become(replace(live.state, number=live.state.number + 1, stage=CANCELLED))
                    continue
                if live.state is state:
                    await _within(changed, self._beat_s)
                if not live.state.is_over:
                    await asyncio.sleep(SAVE_S)
        finally:
            drawing.cancel()
            await asyncio.wait({drawing})
            if self._live.get(live.asked.request_id) is live:
                del self._live[live.asked.request_id]
            live.changed.set()  # readers look into the store from here on

    async def _saved(self, asked: Asked, state: State) -> bool | None:
        """As the store says; a store that does not answer is asked again when there is more to say."""
        while True:
            try:
                return await self._store.save(asked, self._holder, state)
            except ServiceError as error:
                _log.warning("cannot store what a round came to: %s", error, extra={"request_id": asked.request_id})
                if not state.is_over:
                    return False
                await asyncio.sleep(SAVE_S)

    async def _draw(self, live: _Live) -> None:
        """The round itself, tried again while that may help and there is time."""
        ends = time.monotonic() + self._timeout_s
        while not live.state.is_over:
            try:
                last = await self._drawn(live, max(0.0, ends - time.monotonic()))
                if last is None:
                    raise Unavailable("generation service", "ended a round without its group")
                self._on_group(last.group)  # it counts once its stream has ended
                live.become(after(live.state, last))
            except ServiceError as error:
                wait_s = error.retry_after_s or 0.0
                helps = isinstance(error, RetryableError) and not isinstance(error, DeadlineExceeded)
                if helps and time.monotonic() + wait_s < ends:
                    live.become(_stopped(live.state, WAITING, error))
                    await asyncio.sleep(wait_s)
                    continue
                live.become(_stopped(live.state, FAILED, error))
            except Exception:
                _log.exception("a round failed", extra={"request_id": live.asked.request_id})
                live.become(replace(live.state, number=live.state.number + 1, stage=FAILED, reason="INTERNAL"))

    async def _drawn(self, live: _Live, left_s: float) -> GenerateResponse | None:
        """The round's last message, its group; what came before is told at once."""
        last = None
        with tracing.span("draw", kind=SpanKind.CLIENT):
            async with aclosing(self._platform.generate(live.asked.request, left_s)) as responses:
                async for response in responses:
                    if response.WhichOneof("event") != "group":
                        live.become(after(live.state, response))
                    else:
                        last = response
        return last


def _there(found: Found | None) -> Found:
    if found is None:
        raise NotFound("there is no such round", field="request_id")
    return found


def _content(request: GenerateRequest) -> tuple[object, ...]:
    """What a merchant typed of a round."""
    return (
        request.prompt,
        request.negative_prompt,
        request.num_candidates,
        request.num_steps,
        tuple(request.refused_wishes),
    )


def _stopped(state: State, stage: str, error: ServiceError) -> State:
    wait_s = error.retry_after_s or 0.0
    return replace(
        state,
        number=state.number + 1,
        stage=stage,
        reason=reason_of(error),
        wait_s=wait_s,
        problems=tuple(error.violations),
    )


async def _within(event: asyncio.Event, limit_s: float) -> bool:
    try:
        async with asyncio.timeout(limit_s):
            await event.wait()
    except TimeoutError:
        return False
    return True
