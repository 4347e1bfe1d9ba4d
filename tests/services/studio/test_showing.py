"""Pictures: one call for a page of them, to the merchant whose group it is, and not for long."""

import asyncio

import pytest
from perfusion.v1.group_pb2 import Candidate, Group

from services.runtime.errors import NotFound
from services.studio import showing
from services.studio.showing import Pictures
from tests.services.studio.platforms import LedPlatform


@pytest.fixture
def platform() -> LedPlatform:
    made = LedPlatform()
    for user in ("store-1", "store-2"):
        pictures = [Candidate(image_id=f"{user}-{number}", png=b"x" * 10) for number in range(5)]
        made.groups_kept[user, f"group-of-{user}"] = Group(
            user_id=user, group_id=f"group-of-{user}", candidates=pictures
        )
    return made


async def test_a_page_of_pictures_is_one_call(platform: LedPlatform) -> None:
    pictures = Pictures(platform)
    shown = await asyncio.gather(*(pictures.png("store-1", "group-of-store-1", f"store-1-{n}") for n in range(5)))
    assert shown == [b"x" * 10] * 5
    assert platform.group_calls == 1


async def test_what_one_merchant_looked_at_is_not_there_for_another(platform: LedPlatform) -> None:
    pictures = Pictures(platform)
    await pictures.png("store-1", "group-of-store-1", "store-1-0")
    for user, group, image in (
        ("store-2", "group-of-store-1", "store-1-0"),
        ("store-1", "group-of-store-1", "store-2-0"),
        ("store-1", "group-of-store-2", "store-2-0"),
        ("", "group-of-store-1", "store-1-0"),
    ):
        with pytest.raises(NotFound):
            await pictures.png(user, group, image)


async def test_a_picture_is_forgotten_after_a_while_and_when_there_is_no_room(
    platform: LedPlatform, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = Pictures(platform, most_bytes=60)  # one group
    for user in ("store-1", "store-2", "store-2", "store-1"):
        await pictures.png(user, f"group-of-{user}", f"{user}-0")
    assert platform.group_calls == 3
    monkeypatch.setattr(showing, "REMEMBERED_S", 0.0)
    await pictures.png("store-1", "group-of-store-1", "store-1-0")
    assert platform.group_calls == 4


async def test_a_lost_picture_is_asked_for_again(platform: LedPlatform) -> None:
    group = platform.groups_kept["store-1", "group-of-store-1"]
    group.candidates[0].png = b""
    pictures = Pictures(platform)
    with pytest.raises(NotFound):
        await pictures.png("store-1", "group-of-store-1", "store-1-0")
    group.candidates[0].png = b"found"
    assert await pictures.png("store-1", "group-of-store-1", "store-1-0") == b"found"
