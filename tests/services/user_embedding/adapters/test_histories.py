"""Histories and offsets are one: kept once, whatever comes again, from wherever, in both real databases."""

from collections.abc import AsyncIterator
from itertools import permutations

import pytest
import pytest_asyncio

from services.runtime.database import Database
from services.user_embedding.adapters.histories import KEPT_PICKS, SqlHistories
from services.user_embedding.adapters.tables import SCHEMA
from services.user_embedding.incoming import Incoming, Pick, ShownGroup
from services.user_embedding.profiles import PickedGroup
from tests.services.running import database_threads_ended
from tests.services.user_embedding.events import OF_GROUPS, OF_PICKS

SHOWN = {"a": ("sequins",), "b": ("ruffles",)}
GROUP = ShownGroup("g1", "u", 1_000, SHOWN)
FIRST, SECOND = Pick("g1", "u", 1, ("a",)), Pick("g1", "u", 2, ("b",))
START = {OF_GROUPS: 0, OF_PICKS: 0}


@pytest_asyncio.fixture
async def replicas(url: str) -> AsyncIterator[tuple[SqlHistories, SqlHistories]]:
    databases = [Database(url, SCHEMA, timeout_s=5) for _ in range(2)]
    yield SqlHistories(databases[0]), SqlHistories(databases[1])
    for database in databases:
        await database.close()
    await database_threads_ended()


async def keep(histories: SqlHistories, *incoming: Incoming) -> None:
    """One batch from where the offsets are."""
    now = START | dict(await histories.offsets())
    assert await histories.apply(incoming, now, {p: offset + 1 for p, offset in now.items()})


async def test_of_two_picks_of_a_group_the_greater_sequence_counts_in_any_order(
    replicas: tuple[SqlHistories, SqlHistories],
) -> None:
    histories, _ = replicas
    for at, order in enumerate(permutations([GROUP, FIRST, SECOND])):
        user = f"u{at}"
        for event in order:
            own = {"group_id": f"g{at}", "user_id": user}
            await keep(histories, type(event)(**vars(event) | own))
        assert await histories.of([user]) == {user: (PickedGroup(2, (("sequins",), ("ruffles",)), (False, True)),)}


async def test_of_picks_without_sequence_the_last_one_counts(replicas: tuple[SqlHistories, SqlHistories]) -> None:
    histories, _ = replicas
    await keep(histories, GROUP, Pick("g1", "u", 0, ("a",)), Pick("g1", "u", 0, ("b",)))
    [group] = (await histories.of(["u"]))["u"]
    assert group.picked == (False, True)
    await keep(histories, FIRST, Pick("g1", "u", 0, ("b",)))
    [group] = (await histories.of(["u"]))["u"]
    assert group == PickedGroup(1, (("sequins",), ("ruffles",)), (True, False))


async def test_a_replay_changes_nothing(replicas: tuple[SqlHistories, SqlHistories]) -> None:
    histories, _ = replicas
    events = (GROUP, FIRST, ShownGroup("g2", "u", 2_000, SHOWN), Pick("g2", "u", 3, ("b",)), SECOND)
    await keep(histories, *events)
    before = await histories.of(["u"])
    for start in range(len(events)):
        await keep(histories, *events[start:])
    assert await histories.of(["u"]) == before and len(before["u"]) == 2


async def test_of_two_that_read_the_same_records_one_keeps_them(replicas: tuple[SqlHistories, SqlHistories]) -> None:
    one, other = replicas
    assert await one.apply([GROUP], START, START | {OF_GROUPS: 1})
    assert not await other.apply([GROUP, SECOND], START, START | {OF_GROUPS: 1, OF_PICKS: 1})
    assert await other.offsets() == START | {OF_GROUPS: 1}
    assert await one.of(["u"]) == {}  # the whole batch is left out, offsets and rows
    assert await other.apply([SECOND], await other.offsets(), {OF_GROUPS: 1, OF_PICKS: 1})
    assert len((await one.of(["u"]))["u"]) == 1


async def test_a_topic_made_anew_has_offsets_of_its_own(replicas: tuple[SqlHistories, SqlHistories]) -> None:
    histories, _ = replicas
    await keep(histories, GROUP)
    anew = type(OF_PICKS)(OF_PICKS.cluster_id, OF_PICKS.topic, "another", 0)
    assert await histories.apply([], {anew: 5}, {anew: 9})
    assert (await histories.offsets())[anew] == 9 and (await histories.offsets())[OF_PICKS] == 1


@pytest.mark.parametrize("pick", [Pick("g1", "another", 1, ("a",)), Pick("g1", "u", 1, ("a", "of another group"))])
async def test_a_pick_that_does_not_fit_its_group_says_nothing(
    replicas: tuple[SqlHistories, SqlHistories], pick: Pick
) -> None:
    histories, _ = replicas
    await keep(histories, GROUP, pick)
    assert await histories.of(["u", "another"]) == {}


async def test_users_keep_their_last_picks_and_the_groups_of_these(
    replicas: tuple[SqlHistories, SqlHistories],
) -> None:
    histories, _ = replicas
    count = KEPT_PICKS + 3
    numbered = [(f"g{at:03}", at + 1) for at in range(count)]
    groups = [ShownGroup(group_id, "u", 1_000, SHOWN) for group_id, _ in numbered]
    await keep(histories, *groups, *(Pick(group_id, "u", sequence, ("a",)) for group_id, sequence in numbered))
    await keep(histories, ShownGroup("of another", "v", 1_000, SHOWN), Pick("of another", "v", 1, ("b",)))
    found = await histories.of(["u", "v"])
    assert [group.sequence for group in found["u"]] == list(range(4, count + 1)) and len(found["v"]) == 1
    assert await histories.sweep(2_000) == 0  # the groups of forgotten picks are gone with them


async def test_old_groups_without_pick_are_forgotten(replicas: tuple[SqlHistories, SqlHistories]) -> None:
    histories, _ = replicas
    await keep(histories, GROUP, ShownGroup("g2", "u", 1_000, SHOWN), ShownGroup("g3", "u", 3_000, SHOWN), FIRST)
    assert await histories.sweep(2_000) == 1
    await keep(histories, Pick("g2", "u", 5, ("a",)), Pick("g3", "u", 6, ("a",)))
    assert [group.sequence for group in (await histories.of(["u"]))["u"]] == [1, 6]
