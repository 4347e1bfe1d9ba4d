"""Profiles outlive the process that wrote them, value for value, in both real databases."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from services.runtime.database import Database
from services.runtime.errors import Unavailable
from services.user_embedding.adapters.profiles import SqlProfiles
from services.user_embedding.adapters.tables import SCHEMA
from services.user_embedding.profiles import StoredProfile
from tests.services.running import database_threads_ended

PROFILE = StoredProfile(
    "shop ☂",
    {"style": "luxury", "audience": ("women", "men"), "years_open": 3.0},
    1_767_323_045_678_901,
)


@asynccontextmanager
async def store_at(url: str) -> AsyncIterator[SqlProfiles]:
    """The store as a process of its own would have it."""
    database = Database(url, SCHEMA, timeout_s=5)
    yield SqlProfiles(database)
    await database.close()


async def test_a_profile_comes_back_as_it_was_in_another_process(url: str) -> None:
    async with store_at(url) as store:
        await store.put(PROFILE)
    async with store_at(url) as store:
        assert await store.get(["shop ☂", "nobody"]) == {"shop ☂": PROFILE}


async def test_a_put_replaces_the_profile_whole(url: str) -> None:
    later = replace(PROFILE, features={"style": "boho"}, update_time_us=1_769_904_000_000_000)
    async with store_at(url) as store:
        await store.put(PROFILE)
        await store.put(later)
        assert await store.get(["shop ☂"]) == {"shop ☂": later}


async def test_puts_at_once_leave_one_of_them_whole(url: str) -> None:
    profiles = [replace(PROFILE, features={"style": f"{i}", "years_open": float(i)}) for i in range(8)]
    async with store_at(url) as store:
        await asyncio.gather(*(store.put(profile) for profile in profiles))
        assert (await store.get(["shop ☂"]))["shop ☂"] in profiles


async def test_a_database_that_cannot_be_opened_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "users.sqlite").mkdir()
    async with store_at(f"sqlite:///{tmp_path}/users.sqlite") as store:
        with pytest.raises(Unavailable):
            await store.get(["anybody"])
    await database_threads_ended()
