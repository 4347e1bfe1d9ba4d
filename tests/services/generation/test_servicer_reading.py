"""Groups read back and listed by pages, what a release is, and health."""

import base64
import shutil
from itertools import cycle
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from perfusion.v1 import generation_service_pb2 as pb
from perfusion.v1.group_pb2 import PictureLoss

from services.generation.settings import Settings
from tests.services.generation.conftest import Studio, request
from tests.services.market import IMAGE_SIZE_PX
from tests.services.running import failing, running


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Everything here holds in both databases."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/generation.sqlite"
    return str(request.getfixturevalue("postgres").new_database())


async def test_a_group_is_read_back_as_it_was_given(studio: Studio) -> None:
    group = await studio.group(request(scheduler=2, negative_prompt="blue"))
    assert all(candidate.wishes for candidate in group.candidates)
    for view in (pb.GROUP_VIEW_UNSPECIFIED, pb.GROUP_VIEW_FULL):
        answer = await studio.stub.GetGroup(pb.GetGroupRequest(group_id=group.group_id, view=view))
        assert answer.group == group


async def test_the_basic_view_has_no_pictures_and_needs_no_object_store(studio: Studio) -> None:
    group = await studio.group(request(refused_wishes=["sequins"]))
    shutil.rmtree(studio.settings.object_store_url.removeprefix("file://"))
    basic = pb.GetGroupRequest(group_id=group.group_id, view=pb.GROUP_VIEW_BASIC)
    answer = (await studio.stub.GetGroup(basic)).group
    for candidate in group.candidates:
        candidate.ClearField("png")
    assert answer == group
    async with failing() as failure:
        await studio.stub.GetGroup(pb.GetGroupRequest(group_id=group.group_id))
    assert failure.code == grpc.StatusCode.UNAVAILABLE


async def test_a_lost_picture_takes_neither_its_group_nor_the_other_pictures_along(settings: Settings) -> None:
    studio = Studio(settings.model_copy(update={"remembered_picture_bytes": 0}))
    async with running(studio.server) as channel:
        group = await studio.connect(channel).group(order := request(num_candidates=4))
        missing, empty, cut, _ = (Path(candidate.uri.removeprefix("file://")) for candidate in group.candidates)
        missing.unlink()
        empty.write_bytes(b"")
        cut.write_bytes(cut.read_bytes()[:-1])
        for candidate, loss in zip(group.candidates, ("MISSING", "DAMAGED", "DAMAGED"), strict=False):
            candidate.png = b""
            candidate.picture_loss = PictureLoss.Value(f"PICTURE_LOSS_{loss}")
        assert (await studio.stub.GetGroup(pb.GetGroupRequest(group_id=group.group_id))).group == group
        assert await studio.group(order) == group  # the same request again


async def test_a_listed_group_has_its_wishes_and_settings(studio: Studio) -> None:
    group = await studio.group(request(refused_wishes=["sequins"]))
    for candidate in group.candidates:
        candidate.ClearField("png")
    assert await studio.groups_of("ada") == [group]


async def test_a_release_says_what_clients_must_know(studio: Studio) -> None:
    info = (await studio.stub.GetReleaseInfo(pb.GetReleaseInfoRequest())).info
    assert (info.release, info.image_size_px) == (1, IMAGE_SIZE_PX)
    assert info == (await studio.stub.GetReleaseInfo(pb.GetReleaseInfoRequest(release=1))).info
    assert [kind.kind for kind in info.phrase_kinds] == ["category", "sleeve", "detail"]
    assert info.limits.reference_image_bytes == studio.settings.max_image_bytes
    assert info.limits.reference_image_pixels == studio.settings.max_image_pixels


async def test_groups_are_listed_newest_first_by_pages_without_pictures(studio: Studio) -> None:
    made = [(await studio.group(request(num_steps=1))).group_id for _ in range(5)]
    await studio.group(request(user_id="bob"))
    listed: list[str] = []
    token, pages = "", 0
    while pages == 0 or token:
        query = pb.ListGroupsRequest(user_id="ada", page_size=2, page_token=token)
        page = await studio.stub.ListGroups(query)
        assert all(not c.png and c.uri for g in page.groups for c in g.candidates)
        listed += [g.group_id for g in page.groups]
        token, pages = page.next_page_token, pages + 1
    assert listed == made[::-1] and pages == 3


async def test_no_clock_decides_the_order_of_groups(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two replicas whose clocks differ by hours and jump: the list goes by what the database stored later."""
    hour_us = 3_600_000_000
    clocks = cycle([0, -9 * hour_us, 30 * hour_us, -2 * hour_us, hour_us, 5 * hour_us])
    began_us = 1_767_323_045_000_000
    monkeypatch.setattr("services.generation.__main__.now_us", lambda: began_us)
    here = Studio(settings)
    monkeypatch.setattr("services.generation.__main__.now_us", lambda: began_us + next(clocks))
    there = Studio(settings)
    made: list[str] = []
    async with running(here.server) as to_here, running(there.server) as to_there:
        here.connect(to_here), there.connect(to_there)
        for _ in range(2):
            made += [(await studio.group(request(num_steps=1))).group_id for studio in (here, there)]
        assert [group.group_id for group in await here.groups_of("ada")] == made[::-1]
        page = await there.stub.ListGroups(pb.ListGroupsRequest(user_id="ada", page_size=3))
        made.append((await here.group(request(num_steps=1))).group_id)
        last = pb.ListGroupsRequest(user_id="ada", page_token=page.next_page_token)
        assert [group.group_id for group in (await there.stub.ListGroups(last)).groups] == made[:1]


async def test_a_token_of_another_users_list_is_refused(studio: Studio) -> None:
    for _ in range(2):
        await studio.group(request(num_steps=1))
    page = await studio.stub.ListGroups(pb.ListGroupsRequest(user_id="ada", page_size=1))
    async with failing() as failure:
        await studio.stub.ListGroups(pb.ListGroupsRequest(user_id="bob", page_token=page.next_page_token))
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT and set(failure.fields) == {"page_token"}


@pytest.mark.parametrize(
    "position",
    [
        '["ada", Infinity, "g"]',
        '["ada", 1e30, "g"]',
        '["ada", 5, "\\u0000"]',
        "[1]",
        "{",
        pytest.param("[" * 200_000, id="deep"),
    ],
)
async def test_a_made_up_token_is_refused(studio: Studio, position: str) -> None:
    token = base64.urlsafe_b64encode(position.encode()).decode()
    async with failing() as failure:
        await studio.stub.ListGroups(pb.ListGroupsRequest(user_id="ada", page_token=token))
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT and set(failure.fields) == {"page_token"}


async def test_it_serves_just_while_what_it_needs_answers(settings: Settings) -> None:
    studio = Studio(settings)
    async with running(studio.server) as channel:
        health = health_pb2_grpc.HealthStub(channel)

        async def status() -> int:
            await studio.server.poll_health()
            query = health_pb2.HealthCheckRequest(service="perfusion.v1.GenerationService")
            return (await health.Check(query)).status

        serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
        assert await status() == serving
        for part in (studio.models, studio.events):
            part.down = True
            assert await status() == not_serving
            part.down = False
            assert await status() == serving
