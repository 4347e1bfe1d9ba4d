"""Who is at a browser: sessions on the server, and the merchant for whom one acts.

The browser has a secret, the store its hash. The secret is another one after the login, so that nobody who gave a
browser a secret before knows it after. It knows no HTTP.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.runtime.clock import Clock
from services.runtime.errors import PermissionDenied
from services.studio.ports import Person, Session, Sessions

_SECRET_BYTES = 32
TOUCH_US = 60_000_000  # a session's use is noted at most so often
_SECOND_US = 1_000_000
LOGIN_US = 600 * _SECOND_US  # for a login, from its beginning to its end


@dataclass(frozen=True)
class Entering:
    """Sessions end when they are not used for `idle_s`, or older than `age_s`."""

    store: Sessions
    clock: Clock
    idle_s: float
    age_s: float

    async def session(self, secret: str) -> Session | None:
        """The session of a browser's secret, if it has not ended."""
        if not secret:
            return None
        found, now = await self.store.get(_key(secret)), self.clock()
        if found is None or self._has_ended(found, now):
            return None
        if now - found.use_time_us > TOUCH_US:
            await self.store.touch(found.key, now)
        return found

    async def open(self, login: Mapping[str, Any]) -> str:
        """A session for somebody who is about to log in; returns the browser's secret."""
        return await self._put(Person("", "", ()), "", login)

    async def go_on(self, session: Session, login: Mapping[str, Any]) -> None:
        """Another login from the same browser, such as in a second tab, beside the one under way."""
        await self.store.remember(session.key, {**session.login, **login})

    async def enter(self, before: Session, person: Person) -> str:
        """The session after a login, which ends the one before; returns the browser's new secret."""
        await self.store.drop(before.key)
        return await self._put(person, person.merchants[0] if person.merchants else "", {})

    async def act_for(self, session: Session, user_id: str) -> None:
        """From now on for another of the person's merchants; PermissionDenied for one that is not."""
        if user_id not in session.merchants:
            raise PermissionDenied("this login does not name that merchant", field="user_id")
        await self.store.act_for(session.key, user_id, secrets.token_urlsafe(_SECRET_BYTES))

    async def leave(self, session: Session) -> None:
        """Ends it."""
        await self.store.drop(session.key)

    async def sweep(self) -> None:
        """Forgets sessions that have ended."""
        now = self.clock()
        await self.store.forget(now - round(self.idle_s * _SECOND_US), now - LOGIN_US)

    async def _put(self, person: Person, user_id: str, login: Mapping[str, Any]) -> str:
        secret, now = secrets.token_urlsafe(_SECRET_BYTES), self.clock()
        session = Session(
            key=_key(secret),
            person=person.subject,
            name=person.name,
            merchants=person.merchants,
            user_id=user_id,
            form_token=secrets.token_urlsafe(_SECRET_BYTES),
            login=login,
            create_time_us=now,
            use_time_us=now,
        )
        await self.store.put(session)
        return secret

    def _has_ended(self, session: Session, now: int) -> bool:
        idle_us, age_us = now - session.use_time_us, now - session.create_time_us
        if not session.person and age_us > LOGIN_US:
            return True
        return idle_us > self.idle_s * _SECOND_US or age_us > self.age_s * _SECOND_US


def _key(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
