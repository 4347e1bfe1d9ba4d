"""A group is asked for until there is an answer, and not again, also by another process."""

import asyncio
from collections.abc import Collection, Mapping

import pytest

from services.feedback.adapters.remembered import RememberedGroups
from services.feedback.adapters.tables import SCHEMA
from services.feedback.picks import ShownGroup
from services.feedback.ports import Groups
from services.runtime.database import Database
from services.runtime.errors import Unavailable
from tests.services.running import database_threads_ended

GROUP = ShownGroup("g", "shop ☂", 2**40, ("c", "a", "b"))


class Asked(Groups):
    """Knows the group "g" and counts who asks."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.down = False

    async def get(self, group_ids: Collection[str]) -> Mapping[str, ShownGroup]:
        self.asked += group_ids
        if self.down:
            raise Unavailable("generation service")
        return {"g": GROUP} if "g" in group_ids else {}

    async def check(self) -> None:
        if self.down:
            raise Unavailable("generation service")


async def test_a_group_is_remembered_and_an_answer_that_never_came_is_not(url: str) -> None:
    service = Asked()
    first, second = Database(url, SCHEMA, timeout_s=20), Database(url, SCHEMA, timeout_s=20)
    groups = RememberedGroups(first, service)
    service.down = True
    with pytest.raises(Unavailable):
        await groups.get(["g"])
    service.down = False
    assert await groups.get(["unknown"]) == {} and await groups.get(["unknown", "g"]) == {"g": GROUP}
    assert await asyncio.gather(*(groups.get(["g"]) for _ in range(4))) == [{"g": GROUP}] * 4
    before = len(service.asked)
    service.down = True
    for database in (first, second):
        assert await RememberedGroups(database, service).get(["g"]) == {"g": GROUP}
    assert len(service.asked) == before
    with pytest.raises(Unavailable):
        await groups.check()
    for database in (first, second):
        await database.close()
    await database_threads_ended()
