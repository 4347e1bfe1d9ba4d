"""Claims on rounds in SQL, so that one request makes one group under repeats, races and interruptions.

A round is claimed, worked on under a lease that its owner renews, and ends as "done" or is abandoned. It knows the
rounds table and clocks; not how a group is made.
"""

from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from sqlalchemy import Row, case, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.generation.adapters.tables import rounds
from services.generation.ports import Busy, Claim, Finished, RoundClaims
from services.runtime.clock import Clock
from services.runtime.database import Database, insert_into
from services.runtime.errors import AlreadyExists, Unavailable


class SqlRoundClaims(RoundClaims):
    """One row a request_id."""

    def __init__(self, database: Database, clock: Clock, lease_s: float) -> None:
        self._database = database
        self._clock = clock
        self._lease_us = round(lease_s * 1e6)

    async def claim(self, request_id: str, fingerprint: str, release: int) -> Claim | Finished | Busy:
        owner, until = str(uuid4()), self._clock() + self._lease_us
        row = {
            "request_id": request_id,
            "fingerprint": fingerprint,
            "group_id": str(uuid4()),
            "release": release,
            "state": "running",
            "owner": owner,
            "lease_until_us": until,
        }
        async with self._database.transaction() as connection:
            # The insert comes first: it takes SQLite's write lock, so two claims never upgrade from reading at once.
            await connection.execute(insert_into(connection, rounds).values(row).on_conflict_do_nothing())
            found = await self._take_over(connection, row)
        if found is None:  # given up between our insert and our look
            return Busy()
        if found.fingerprint != fingerprint:
            raise AlreadyExists(f"request_id {request_id} was used before with a different request")
        if found.state == "done":
            return Finished(found.group_id, found.release)
        if found.owner != owner:
            return Busy()
        return Claim(request_id, found.group_id, found.release, owner, found.event)

    async def _take_over(self, connection: AsyncConnection, row: Mapping[str, Any]) -> Row[Any] | None:
        """Takes a round whose lease ran out. Returns the row as it is now, if it is still there."""
        this = rounds.c.request_id == row["request_id"]
        expired = this & (rounds.c.lease_until_us < self._clock()) & (rounds.c.state != "done")
        # A round that was only running restarts on the release in service; a stored one keeps the release that made it.
        release = case((rounds.c.state == "running", row["release"]), else_=rounds.c.release)
        lease = {"owner": row["owner"], "lease_until_us": row["lease_until_us"]}
        await connection.execute(update(rounds).where(expired).values(release=release, **lease))
        return (await connection.execute(select(rounds).where(this))).one_or_none()

    async def renew(self, claim: Claim) -> None:
        async with self._database.transaction() as connection:
            await self.change(connection, claim, lease_until_us=self._clock() + self._lease_us)

    async def finish(self, claim: Claim) -> None:
        async with self._database.transaction() as connection:
            await self.change(connection, claim, state="done", owner="", lease_until_us=0)

    async def abandon(self, claim: Claim) -> None:
        mine = (rounds.c.request_id == claim.request_id) & (rounds.c.owner == claim.owner)
        async with self._database.transaction() as connection:
            await connection.execute(delete(rounds).where(mine, rounds.c.state == "running"))
            await connection.execute(update(rounds).where(mine).values(owner="", lease_until_us=0))

    async def change(self, connection: AsyncConnection, claim: Claim, **values: object) -> None:
        """Changes the round within a transaction, if the claim still holds."""
        mine = (rounds.c.request_id == claim.request_id) & (rounds.c.owner == claim.owner)
        result = await connection.execute(update(rounds).where(mine).values(**values))
        if result.rowcount != 1:
            raise Unavailable("round", "was taken over by another attempt")
