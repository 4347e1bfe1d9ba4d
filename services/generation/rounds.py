"""A round from order to group: claim it, paint, rank, store, publish to Kafka, and only then return it.

It knows the order of these steps and what each failure leaves behind. It does not know gRPC, SQL, Kafka or Triton.

What a failure leaves: before the group is stored, nothing (the claim is given up); between storing and Kafka's
acknowledgement, a group that no client can see yet, and that a retry of the same request_id delivers without painting
again; its event has the same id then.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from uuid import UUID, uuid4, uuid5

from perfusion.v1 import events_pb2

from contract.release import Release
from services.generation.messages import event_message
from services.generation.metrics import GenerationMetrics
from services.generation.orders import Accepted, Candidate, Group, Order, Progress
from services.generation.painting import Painted, Painter
from services.generation.ports import (
    Busy,
    Claim,
    Features,
    Finished,
    Groups,
    Pictures,
    Ranker,
    RoundClaims,
    Users,
)
from services.runtime.clock import Clock
from services.runtime.deadlines import remaining_s
from services.runtime.errors import NotFound, PermanentError
from services.runtime.events import Event, Events

_log = logging.getLogger(__name__)

POLL_S = 0.2  # while another call works on the same request_id


@dataclass(frozen=True)
class Rounds:
    """Runs rounds; `topic` gets the groups' events, `lease_s` is how long a claim holds without a renewal."""

    claims: RoundClaims
    groups: Groups
    pictures: Pictures
    painter: Painter
    users: Users
    ranker: Ranker
    events: Events
    metrics: GenerationMetrics
    clock: Clock
    topic: str
    lease_s: float

    async def run(self, order: Order, release: Release) -> AsyncGenerator[Accepted | Progress | Group]:
        """Accepted, then Progress for each step, then the Group; the same group for the same request_id."""
        started = time.monotonic()
        claim = await self._claim(order, release)
        if isinstance(claim, Finished):
            yield Accepted(claim.group_id, claim.release)
            yield await self.read(claim.group_id)
            self.metrics.groups.labels("repeated", claim.release).inc()
            return
        async with self._working_on(claim):
            if claim.event is not None:
                yield Accepted(claim.group_id, claim.release)
                await self._announce(claim, claim.event)
                group = await self.read(claim.group_id)
            else:
                async with aclosing(self._make(order, release, claim)) as events:
                    async for event in events:
                        if isinstance(event, Group):
                            group = event
                        else:
                            yield event
        self.metrics.groups.labels("made", claim.release).inc()
        self.metrics.candidates.labels(claim.release).inc(len(group.candidates))
        self.metrics.group_latency_s.labels(claim.release).observe(time.monotonic() - started)
        yield group

    async def read(self, group_id: str, *, with_pictures: bool = True) -> Group:
        """A finished group, with its pictures or without asking the object store; NotFound when there is none."""
        group = await self.groups.get(group_id)
        if group is None:
            raise NotFound(f"group_id: there is no group {group_id}", field="group_id")
        if not with_pictures:
            return group
        pngs = await asyncio.gather(*(self.pictures.get(candidate.uri) for candidate in group.candidates))
        shown = zip(group.candidates, pngs, strict=True)
        return replace(group, candidates=tuple(replace(candidate, png=png) for candidate, png in shown))

    async def _claim(self, order: Order, release: Release) -> Claim | Finished:
        """Waits while another call has the round; that call may finish it, or fail and release it."""
        while True:
            claim = await self.claims.claim(order.request_id, order.fingerprint, release.number)
            if not isinstance(claim, Busy):
                return claim
            await asyncio.sleep(remaining_s(POLL_S))

    @asynccontextmanager
    async def _working_on(self, claim: Claim) -> AsyncIterator[None]:
        """Renews the claim meanwhile, and gives it up on any failure, cancellation included."""
        renewing = asyncio.create_task(self._renew(claim), name="renew")
        try:
            yield
        except BaseException as error:
            self.metrics.groups.labels(_outcome(error), claim.release).inc()
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

    async def _make(self, order: Order, release: Release, claim: Claim) -> AsyncGenerator[Accepted | Progress | Group]:
        """Everything from the user's vectors to the acknowledged event."""
        user, features = await asyncio.gather(
            self.users.vectors(order.user_id, release), self.users.features(order.user_id)
        )
        yield Accepted(claim.group_id, release.number)
        async with aclosing(self.painter.paint(order, user, release)) as painting:
            async for event in painting:
                if isinstance(event, Progress):
                    yield event
                else:
                    painted = event
        group = await self._group(order, release, claim, painted)
        event_bytes = _serialized(group, features)
        await self.groups.add(claim, group, event_bytes)
        await self._announce(claim, event_bytes)
        yield group

    async def _group(self, order: Order, release: Release, claim: Claim, painted: Painted) -> Group:
        """Ranks and keeps the pictures."""
        scores, uris = await asyncio.gather(
            self.ranker.rank(order.user_id, order.prompt, painted.pngs, release.number),
            asyncio.gather(*(self.pictures.put(png) for png in painted.pngs)),
        )
        candidates = [
            Candidate(str(uuid4()), uri, seed, score, rank, wishes, png)
            for seed, wishes, png, uri, (score, rank) in zip(
                painted.seeds, painted.wishes, painted.pngs, uris, scores, strict=True
            )
        ]
        return Group(
            group_id=claim.group_id,
            request_id=order.request_id,
            user_id=order.user_id,
            prompt=order.prompt,
            negative_prompt=order.negative_prompt,
            release=release.number,
            create_time_us=self.clock(),
            settings=order.settings,
            candidates=tuple(sorted(candidates, key=lambda candidate: candidate.rank)),
        )

    async def _announce(self, claim: Claim, event: bytes) -> None:
        """Kafka first, clients after: a group that clients can see has always been acknowledged."""
        message = events_pb2.GroupGenerated.FromString(event)
        event_id = str(uuid5(UUID(claim.group_id), "GroupGenerated"))
        await self.events.publish(Event(self.topic, message.user_id, event_id, message))
        await self.claims.finish(claim)


def _outcome(error: BaseException) -> str:
    """The outcome for the metrics: a client's request for a missing object must not count as "failed" in an alert."""
    if isinstance(error, PermanentError):
        return "refused"
    return "failed" if isinstance(error, Exception) else "cancelled"


def _serialized(group: Group, features: Features) -> bytes:
    return event_message(group, features).SerializeToString(deterministic=True)
