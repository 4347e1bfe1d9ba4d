"""Stars and links: page by page, and a group's own."""

from uuid import uuid4

import pytest

from services.runtime.database import Database
from services.studio.adapters import keepsakes as adapter
from services.studio.adapters.keepsakes import SqlKeepsakes
from services.studio.ports import Kept, KeptPage

GROUP, OTHER = "0b6c1b0a-5c0e-4f5e-9a51-0e9d3c0f2b11", "5d3f8a52-7c1d-4f0e-8d57-6a1f3c9b7e22"


@pytest.fixture
def keepsakes(database: Database) -> SqlKeepsakes:
    return SqlKeepsakes(database, lambda: 1_000)  # all at once: their order is that of the pictures


async def starred(keepsakes: SqlKeepsakes, count: int, user: str = "chen", group: str = GROUP) -> set[str]:
    pictures = {str(uuid4()) for _ in range(count)}
    for picture in pictures:
        await keepsakes.star(Kept(user, group, picture), starred=True)
    return pictures


async def pages(first: KeptPage, keepsakes: SqlKeepsakes) -> list[list[str]]:
    found = [[kept.image_id for kept in first.kept]]
    page = first
    while page.next_page:
        page = await keepsakes.starred("chen", page.next_page)
        found.append([kept.image_id for kept in page.kept])
    return found


@pytest.mark.parametrize(("count", "sizes"), [(0, [0]), (3, [3]), (4, [3, 1]), (6, [3, 3])])
async def test_each_star_is_on_one_page(
    keepsakes: SqlKeepsakes, monkeypatch: pytest.MonkeyPatch, count: int, sizes: list[int]
) -> None:
    monkeypatch.setattr(adapter, "_A_PAGE", 3)
    pictures = await starred(keepsakes, count)
    await starred(keepsakes, 2, user="lin")
    found = await pages(await keepsakes.starred("chen"), keepsakes)
    assert [len(page) for page in found] == sizes
    assert {picture for page in found for picture in page} == pictures


async def test_a_star_that_goes_moves_no_page(keepsakes: SqlKeepsakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "_A_PAGE", 2)
    pictures = await starred(keepsakes, 4)
    first = await keepsakes.starred("chen")
    for kept in first.kept:
        await keepsakes.star(kept, starred=False)
    second = await keepsakes.starred("chen", first.next_page)
    assert {kept.image_id for kept in (*first.kept, *second.kept)} == pictures


@pytest.mark.parametrize("page", ["x", "9" * 30 + f"-{GROUP}", "1000-", "1000-' or 1=1 --", "\0"])
async def test_a_page_that_nobody_named_is_the_first(keepsakes: SqlKeepsakes, page: str) -> None:
    await starred(keepsakes, 1)
    assert await keepsakes.starred("chen", page) == await keepsakes.starred("chen")


async def test_a_group_has_its_own_stars_and_links(keepsakes: SqlKeepsakes) -> None:
    pictures = await starred(keepsakes, 2)
    await starred(keepsakes, 1, group=OTHER)
    await starred(keepsakes, 1, user="lin")
    link = await keepsakes.share(Kept("chen", GROUP, min(pictures)))
    await keepsakes.share(Kept("chen", OTHER, str(uuid4())))
    assert await keepsakes.of_group("chen", GROUP) == (pictures, {min(pictures): link.token})
    assert [kept.token for kept in (await keepsakes.shared("chen")).kept].count(link.token) == 1
