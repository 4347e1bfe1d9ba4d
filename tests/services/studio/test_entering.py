"""Sessions: who has the browser's secret, until when, and for which merchant."""

from dataclasses import replace

import pytest

from services.runtime.database import Database
from services.runtime.errors import PermissionDenied
from services.studio.adapters.sessions import SqlSessions
from services.studio.entering import Entering
from services.studio.ports import Person

PERSON = Person("chen", "Chen", ("store-1", "store-2"))
SECOND_US = 1_000_000


class Clock:
    now = 10_000 * SECOND_US

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def entering(database: Database, clock: Clock) -> Entering:
    return Entering(SqlSessions(database), clock, idle_s=100, age_s=1000)


async def entered(entering: Entering) -> str:
    before = await entering.session(await entering.open({"state": "x"}))
    assert before is not None
    return await entering.enter(before, PERSON)


async def test_a_login_gets_another_secret_and_ends_the_one_before(entering: Entering) -> None:
    first = await entering.open({"state": "x"})
    before = await entering.session(first)
    assert before is not None
    assert (before.person, before.login) == ("", {"state": "x"})
    second = await entering.enter(before, PERSON)
    assert await entering.session(first) is None
    session = await entering.session(second)
    assert session is not None
    assert (session.person, session.user_id, session.merchants, session.login) == (
        "chen", "store-1", ("store-1", "store-2"), {},
    )  # fmt: skip
    assert second not in session.key
    assert session.form_token != before.form_token


@pytest.mark.parametrize("secret", ["", "x", "é\0", "x" * 5000])
async def test_nobody_enters_by_a_secret_that_was_not_given(entering: Entering, secret: str) -> None:
    await entered(entering)
    assert await entering.session(secret) is None


async def test_a_session_ends_when_it_is_not_used_or_old(entering: Entering, clock: Clock) -> None:
    idle, used = await entered(entering), await entered(entering)
    for _ in range(11):
        clock.now += 90 * SECOND_US
        assert await entering.session(used) is not None
    assert await entering.session(idle) is None
    clock.now += 20 * SECOND_US  # 1,010 s old
    assert await entering.session(used) is None


async def test_a_person_acts_for_their_merchants_alone_and_older_pages_change_nothing(entering: Entering) -> None:
    secret = await entered(entering)
    session = await entering.session(secret)
    assert session is not None
    with pytest.raises(PermissionDenied):
        await entering.act_for(session, "store-3")
    await entering.act_for(session, "store-2")
    now = await entering.session(secret)
    assert now is not None
    assert now.user_id == "store-2"
    assert now.form_token != session.form_token
    await entering.leave(now)
    assert await entering.session(secret) is None


async def test_a_request_that_began_before_a_logout_does_not_bring_the_session_back(
    entering: Entering, clock: Clock
) -> None:
    secret = await entered(entering)
    session = await entering.session(secret)
    assert session is not None
    await entering.leave(session)
    await entering.store.touch(session.key, clock())
    await entering.act_for(session, "store-2")
    assert await entering.session(secret) is None


async def test_a_login_has_ten_minutes_and_may_begin_in_two_tabs(entering: Entering, clock: Clock) -> None:
    secret = await entering.open({"first": 1})
    session = await entering.session(secret)
    assert session is not None
    await entering.go_on(session, {"second": 2})
    both = await entering.session(secret)
    assert both is not None
    assert both.login == {"first": 1, "second": 2}
    patient = replace(entering, idle_s=10_000.0, age_s=10_000.0)
    clock.now += 601 * SECOND_US
    assert await patient.session(secret) is None
    await patient.sweep()
    assert await entering.store.get(session.key) is None


async def test_what_has_ended_is_swept(entering: Entering, clock: Clock) -> None:
    kept, gone = await entered(entering), await entered(entering)
    clock.now += 90 * SECOND_US
    session = await entering.session(kept)
    assert session is not None
    clock.now += 20 * SECOND_US
    await entering.sweep()
    assert await entering.store.get(replace(session).key) is not None
    assert await entering.session(gone) is None
