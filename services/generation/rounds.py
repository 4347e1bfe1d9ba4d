"""A round from plan to group: claim it, paint, rank, store, publish to Kafka, and only then return it.

It knows the order of these steps and what each failure leaves behind. It does not know gRPC, SQL, Kafka or Triton.

What a failure leaves: before the group is stored, nothing (the claim is given up); between storing and Kafka's
acknowledgement, a group that no client can see yet and an owed event, which the relay publishes whether the same
request_id comes again or not. A repeat waits for the event, and gets the group without painting again.

A release beside the live one fails no round: the live release then makes the whole of it, within the same call. So a
release that hangs or is slow is given up while there is time for that.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from uuid import UUID, uuid4, uuid5

from contract import tracing
from contract.release import Release
from services.generation.assigning import Assigner, CannotServe, Plan
from services.generation.messages import event_message
from services.generation.metrics import GenerationMetrics
from services.generation.mixing import Part, in_step
from services.generation.orders import Accepted, Candidate, Group, Order, Progress, Queued, Scores, User
from services.generation.painting import Painted, Painter
from services.generation.pictures import Loss
from services.generation.places import Places
from services.generation.ports import (
    Busy,
    Claim,
    Finished,
    Groups,
    Pictures,
    Ranker,
    RoundClaims,
    Users,
)
from services.generation.samplers import steps_run
from services.generation.seeds import candidate_seeds
from services.generation.stepping import Denoiser, NoRoom, Turn
from services.runtime.callers import acts_for
from services.runtime.clock import Clock
from services.runtime.deadlines import is_over, remaining_s
from services.runtime.errors import DeadlineExceeded, NotFound, PermanentError, ResourceExhausted
from services.runtime.patience import outlasting
from services.runtime.relay import Relay

_log = logging.getLogger(__name__)

POLL_S = 0.2  # while another call works on the same request_id


@dataclass(frozen=True)
class Rounds:
    """Runs rounds; `lease_s` is how long a claim holds without a renewal."""

    claims: RoundClaims
    groups: Groups
    pictures: Pictures
    painter: Painter
    users: Users
    ranker: Ranker
    assigner: Assigner
    relay: Relay
    metrics: GenerationMetrics
    clock: Clock
    lease_s: float
    denoiser: Denoiser
    waiting: Places  # of calls that wait for another call's round

    async def run(self, plan: Plan) -> AsyncGenerator[Accepted | Queued | Progress | Group]:
        """Accepted, then Progress for each step, then the Group; the same group for the same request_id."""
        started = time.monotonic()
        with self._counting_failures(plan):
            claim = await self._claim(plan)
            if isinstance(claim, Finished):
                yield Accepted(claim.group_id, claim.release)
                await self._announce(plan.order.user_id, claim.group_id)
                group, outcome = await self.read(claim.group_id), "repeated"
            else:
                async with (
                    self._working_on(plan.order, claim) as turn,
                    aclosing(self._make(plan, claim, turn)) as events,
                ):
                    async for event in events:
                        if isinstance(event, Group):
                            group, outcome = event, "made"
                        else:
                            yield event
                await self._announce(plan.order.user_id, claim.group_id)
        arm = group.arm or ""
        self.metrics.groups.labels(outcome, group.release, arm).inc()
        if outcome == "made":
            for candidate in group.candidates:
                self.metrics.candidates.labels(candidate.release, arm).inc()
            self.metrics.group_latency_s.labels(group.release, arm).observe(
                time.monotonic() - started, tracing.exemplar()
            )
        yield group

    async def read(self, group_id: str, *, with_pictures: bool = True) -> Group:
        """A finished group, with its pictures or without asking the object store; NotFound when there is none."""
        group = await self.groups.get(group_id)
        if group is None or not acts_for(group.user_id):  # another merchant's is as one that never was
            raise NotFound(f"group_id: there is no group {group_id}", field="group_id")
        if not with_pictures:
            return group
        shown = await asyncio.gather(*(self._show(candidate) for candidate in group.candidates))
        return replace(group, candidates=tuple(shown))

    async def _show(self, candidate: Candidate) -> Candidate:
        """With its picture; one that is lost takes neither the group nor its other pictures along."""
        png = await self.pictures.get(candidate.uri)
        return replace(candidate, loss=png) if isinstance(png, Loss) else replace(candidate, png=png)

    async def _claim(self, plan: Plan) -> Claim | Finished:
        """Waits while another call has the round; that call may finish it, or fail and release it."""
        await self._check_room(plan.order)
        with tracing.span("claim"):
            return await self._claimed(plan.order, plan.release.number)

    async def _claimed(self, order: Order, release: int) -> Claim | Finished:
        claim = await self.claims.claim(order.request_id, order.fingerprint, release)
        if isinstance(claim, Busy):
            with self.waiting.taken():
                while isinstance(claim, Busy):
                    await asyncio.sleep(remaining_s(POLL_S))
                    claim = await self.claims.claim(order.request_id, order.fingerprint, release)
        return claim

    async def _check_room(self, order: Order) -> None:
        """Before anything is written: a refusal under load costs a look. A round that is known needs no room."""
        try:
            self.denoiser.check_room(order.user_id, order.num_candidates, _steps(order))
        except NoRoom:
            if not await self.claims.knows(order.request_id):
                raise

    @contextmanager
    def _counting_failures(self, plan: Plan) -> Iterator[None]:
        self.metrics.groups.labels("failed", plan.release.number, plan.arm)  # begins with 0, else nobody sees the first
        try:
            yield
        except BaseException as error:
            if isinstance(error, NoRoom):
                self.metrics.refused.labels(error.why).inc()
            self.metrics.groups.labels(_outcome(error), plan.release.number, plan.arm).inc()
            raise

    @asynccontextmanager
    async def _working_on(self, order: Order, claim: Claim) -> AsyncIterator[Turn]:
        """Renews the claim meanwhile, and gives it up on any failure, cancellation included."""
        renewing = asyncio.create_task(self._renew(claim), name="renew")
        try:
            async with self.denoiser.round(order.user_id, order.num_candidates, _steps(order)) as turn:
                yield turn
        except BaseException:
            renewing.cancel()
            await asyncio.shield(self._abandon(claim))
            raise
        finally:
            renewing.cancel()

    async def _renew(self, claim: Claim) -> None:
        while True:
            await asyncio.sleep(self.lease_s / 3)
            try:
                await self.claims.renew(claim)
            except Exception:  # if the claim is lost, storing the group will fail; nothing worse can come of it
                _log.warning("could not renew the claim on request %s", claim.request_id, exc_info=True)

    async def _abandon(self, claim: Claim) -> None:
        try:
            await self.claims.abandon(claim)
        except Exception:  # the first error is the one to report; the lease will run out by itself
            _log.warning("could not give up the claim on request %s", claim.request_id, exc_info=True)

    async def _make(self, plan: Plan, claim: Claim, turn: Turn) -> AsyncGenerator[Accepted | Queued | Progress | Group]:
        """The round by its plan, else by the live release: what the client was told already is not told again."""
        told = -1.0
        while True:
            try:
                async with aclosing(self._attempt(plan, claim, turn)) as events:
                    async for event in events:
                        if isinstance(event, Queued) or _place(event) > told:
                            told = max(told, _place(event))
                            yield event
            except CannotServe as failure:
                assert plan.instead is not None
                self.assigner.taken_over(plan, failure)
                plan = plan.instead
            else:
                return

    async def _attempt(
        self, plan: Plan, claim: Claim, turn: Turn
    ) -> AsyncGenerator[Accepted | Queued | Progress | Group]:
        """Everything from the user's vectors to the stored group, which ends the claim."""
        users = await asyncio.gather(*(self._user(plan, release) for release, _ in plan.parts))
        yield Accepted(claim.group_id, plan.release.number)
        async with aclosing(turn.queue()) as places:
            async for queued in places:
                yield queued
        async with aclosing(self._paint(plan, users, turn)) as painting:
            async for event in painting:
                if isinstance(event, Progress):
                    yield event
                else:
                    painted = event
        group = await self._group(plan, claim, painted, users)
        history = max(user.history for user in users)  # of a mixed group, no picks later than these were seen
        owed = event_message(group, plan.read.prompt, users[0].features, history)
        with tracing.span("store group", {"perfusion.group_id": group.group_id}):
            await self.groups.add(claim, group, _event_id(group.group_id), owed)
        yield group

    async def _user(self, plan: Plan, release: Release) -> User:
        with plan.serving(release):
            return await self.users.vectors(plan.order.user_id, release)

    def _paint(self, plan: Plan, users: Sequence[User], turn: Turn) -> AsyncGenerator[Progress | Painted]:
        """All releases side by side."""
        seeds = candidate_seeds(plan.order.settings.seed, plan.order.num_candidates)
        parts = [
            Part(places, self._paint_part(plan, [seeds[place] for place in places], user, release, turn))
            for user, (release, places) in zip(users, plan.parts, strict=True)
        ]
        return in_step(parts)

    async def _paint_part(
        self, plan: Plan, seeds: Sequence[int], user: User, release: Release, turn: Turn
    ) -> AsyncGenerator[Progress | Painted]:
        """Half of the steps that are left have half of the time that is left, again and again."""
        half_time, goal = time.monotonic() + remaining_s(math.inf) / 2, 0.5
        async with aclosing(self.painter.paint(plan.read, seeds, user, release, turn)) as painting:
            while True:
                with plan.serving(release, half_time - time.monotonic()):
                    event = await anext(painting, None)
                if event is None:
                    return
                if isinstance(event, Progress) and (done := event.step / event.num_steps) >= goal:
                    half_time, goal = time.monotonic() + remaining_s(math.inf) / 2, (1 + done) / 2
                yield event

    async def _group(self, plan: Plan, claim: Claim, painted: Painted, users: Sequence[User]) -> Group:
        """Ranks and keeps the pictures."""
        order = plan.order
        scores, uris = await asyncio.gather(self._rank(plan, painted.pngs, users), self._store(painted.pngs))
        candidates = [
            Candidate(str(uuid4()), uri, seed, score, rank, wishes, release.number, png)
            for seed, wishes, release, png, uri, (score, rank) in zip(
                painted.seeds, painted.wishes, plan.drawn_by, painted.pngs, uris, scores, strict=True
            )
        ]
        return Group(
            group_id=claim.group_id,
            request_id=order.request_id,
            user_id=order.user_id,
            prompt=order.prompt,
            negative_prompt=order.negative_prompt,
            release=plan.release.number,
            create_time_us=self.clock(),
            settings=order.settings,
            candidates=tuple(sorted(candidates, key=lambda candidate: candidate.rank)),
            arm=plan.arm,
            propensity=plan.propensity,
            trial_release=plan.trial_release,
        )

    async def _rank(self, plan: Plan, pngs: Sequence[bytes], users: Sequence[User]) -> Scores:
        """By the plan's own release, which need not have drawn any of them."""
        by_release = {release.number: user for user, (release, _) in zip(users, plan.parts, strict=True)}
        number = plan.release.number
        with tracing.span("rank"), plan.serving(plan.release), outlasting():
            return await self.ranker.rank(plan.order.user_id, plan.read.prompt, pngs, number, by_release.get(number))

    async def _store(self, pngs: Sequence[bytes]) -> Sequence[str]:
        """Their addresses."""
        with tracing.span("store pictures"):
            return await asyncio.gather(*(self.pictures.put(png) for png in pngs))

    async def _announce(self, user_id: str, group_id: str) -> None:
        """Kafka first, clients after: a group that clients can see has always been acknowledged."""
        with tracing.span("announce", {"perfusion.group_id": group_id}):
            await self.relay.deliver(user_id, _event_id(group_id))


def _place(event: Accepted | Queued | Progress | Group) -> float:
    """Among the events of a round."""
    match event:
        case Accepted() | Queued():
            return 0
        case Progress():
            return event.step
        case Group():
            return math.inf


def _steps(order: Order) -> int:
    """Denoising steps of its round."""
    return steps_run(order.settings.num_steps, order.settings.strength or 1.0)


def _outcome(error: BaseException) -> str:
    """The outcome for the metrics: what a client asked for must not count as "failed" in an alert."""
    if isinstance(error, PermanentError | ResourceExhausted):
        return "refused"
    if isinstance(error, DeadlineExceeded) or (isinstance(error, asyncio.CancelledError) and is_over()):
        return "late"
    return "failed" if isinstance(error, Exception) else "cancelled"


def _event_id(group_id: str) -> str:
    return str(uuid5(UUID(group_id), "GroupGenerated"))
