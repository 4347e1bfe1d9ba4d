"""Claims on rounds in SQL, so that one request makes one group under repeats, races and interruptions.

A round is claimed, worked on while its owner's beats go on, and ends as "done" or is abandoned. It knows the rounds
table; runtime/leases.py says when an owner counts as gone. It does not know how a group is made.
"""

import asyncio
import logging
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.generation.adapters.tables import rounds
from services.generation.ports import Busy, Claim, Finished, RoundClaims
from services.runtime.database import Database, insert_into
from services.runtime.errors import AlreadyExists, Unavailable
from services.runtime.leases import Watch, new_token

_log = logging.getLogger(__name__)


class SqlRoundClaims(RoundClaims):
    """One row a request_id."""

    def __init__(self, database: Database, watch: Watch) -> None:
        self._database = database
        self._watch = watch

    async def claim(self, request_id: str, fingerprint: str, release: int) -> Claim | Finished | Busy:
        owner = new_token()
        try:
            return await self._claim(request_id, fingerprint, release, owner)
        except asyncio.CancelledError:  # it may be committed all the same, and nobody would give it up
            await asyncio.shield(self._forget(request_id, owner))
            raise

    async def _forget(self, request_id: str, owner: str) -> None:
        try:
            await self._give_up(request_id, owner)
        except Exception:  # then it ends with its lease
            _log.warning("could not give up the claim on request %s", request_id, exc_info=True)

    async def _claim(self, request_id: str, fingerprint: str, release: int, owner: str) -> Claim | Finished | Busy:
        async with self._database.transaction() as connection:  # a repeat writes nothing, also where nothing can be
            found = await _find(connection, request_id)
        if found is not None and (answer := self._taken(found, fingerprint)) is not None:
            return answer
        row = {
            "request_id": request_id,
            "fingerprint": fingerprint,
            "group_id": str(uuid4()),
            "release": release,
            "state": "running",
            "owner": owner,
            "beats": 0,
        }
        async with self._database.writing() as connection:
            # The insert comes first: it takes SQLite's write lock, so two claims never upgrade from reading at once.
            await connection.execute(insert_into(connection, rounds).values(row).on_conflict_do_nothing())
            found = await _find(connection, request_id)
            if found is None:  # given up between our insert and our look
                return Busy()
            if found.owner != owner:
                if (answer := self._taken(found, fingerprint)) is not None:
                    return answer
                if not await self._take_over(connection, found, owner, release):
                    return Busy()
        return Claim(request_id, found.group_id, release, owner)

    def _taken(self, found: Row[Any], fingerprint: str) -> Finished | Busy | None:
        """What a round is to a call that did not claim it; None when its owner has gone."""
        if found.fingerprint != fingerprint:
            raise AlreadyExists(f"request_id {found.request_id} was used before with a different request")
        if found.state == "done":
            return Finished(found.group_id, found.release)
        return None if self._watch.has_expired(found.request_id, found.owner, found.beats) else Busy()

    async def _take_over(self, connection: AsyncConnection, found: Row[Any], owner: str, release: int) -> bool:
        """Takes the round of an owner that has gone; it begins anew on the release in service."""
        claimed = update(rounds).where(_unchanged(found)).values(owner=owner, beats=found.beats + 1, release=release)
        return (await connection.execute(claimed)).rowcount == 1

    async def knows(self, request_id: str) -> bool:
        async with self._database.transaction() as connection:
            return await _find(connection, request_id) is not None

    async def renew(self, claim: Claim) -> None:
        async with self._database.transaction() as connection:
            await _change(connection, claim, beats=rounds.c.beats + 1)

    async def finish(self, connection: AsyncConnection, claim: Claim, release: int) -> None:
        """Ends the round within the transaction that stores its group; Unavailable when it was taken over."""
        await _change(connection, claim, state="done", owner="", release=release)

    async def abandon(self, claim: Claim) -> None:
        await self._give_up(claim.request_id, claim.owner)

    async def _give_up(self, request_id: str, owner: str) -> None:
        async with self._database.transaction() as connection:
            await connection.execute(delete(rounds).where(_owned(request_id, owner)))

    async def sweep(self) -> None:
        """Abandons the rounds of owners that have gone, so that no later repeat has to wait for a lease."""
        async with self._database.transaction() as connection:
            running = (await connection.execute(select(rounds).where(rounds.c.state == "running"))).all()
        self._watch.keep({found.request_id for found in running})
        for found in running:
            if self._watch.has_expired(found.request_id, found.owner, found.beats):
                async with self._database.transaction() as connection:
                    await connection.execute(delete(rounds).where(_unchanged(found)))


async def _find(connection: AsyncConnection, request_id: str) -> Row[Any] | None:
    return (await connection.execute(select(rounds).where(rounds.c.request_id == request_id))).one_or_none()


def _owned(request_id: str, owner: str) -> Any:
    return (rounds.c.request_id == request_id) & (rounds.c.owner == owner)


def _unchanged(found: Row[Any]) -> Any:
    """The round as it was seen: its owner has not moved, and nobody else has taken it."""
    return _owned(found.request_id, found.owner) & (rounds.c.beats == found.beats) & (rounds.c.state == "running")


async def _change(connection: AsyncConnection, claim: Claim, **values: object) -> None:
    """Changes the round if the claim still holds."""
    result = await connection.execute(update(rounds).where(_owned(claim.request_id, claim.owner)).values(**values))
    if result.rowcount != 1:
        raise Unavailable("round", "was taken over by another attempt")
