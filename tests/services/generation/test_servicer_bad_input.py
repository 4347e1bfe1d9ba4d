"""Bad requests: a status that names the field, and nothing recorded anywhere."""

import asyncio
import io
import math
import struct
import zlib
from typing import Any
from uuid import uuid4

import grpc
import pytest
from perfusion.v1 import generation_service_pb2 as pb
from PIL import Image

from tests.services.generation.conftest import Studio, request
from tests.services.generation.test_servicer_generate import png_of
from tests.services.running import failing


def bomb() -> bytes:
    """A small PNG whose header promises 40,000 × 40,000 pixels."""
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def gif() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "GIF")
    return buffer.getvalue()


BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "empty prompt": ("prompt", {"prompt": ""}),
    "blank prompt": ("prompt", {"prompt": "  \n "}),
    "prompt without a phrase": ("prompt", {"prompt": " , ,"}),
    "long prompt": ("prompt", {"prompt": "x" * 10_000}),
    "long negative prompt": ("negative_prompt", {"negative_prompt": "x" * 1001}),
    "no user": ("user_id", {"user_id": ""}),
    "malformed id": ("request_id", {"request_id": "not-a-uuid"}),
    "no id": ("request_id", {"request_id": ""}),
    "no candidates": ("num_candidates", {"num_candidates": 0}),
    "many candidates": ("num_candidates", {"num_candidates": 100}),
    "negative candidates": ("num_candidates", {"num_candidates": -1}),
    "no steps": ("num_steps", {"num_steps": 0}),
    "many steps": ("num_steps", {"num_steps": 101}),
    "NaN guidance": ("guidance_scale", {"guidance_scale": math.nan}),
    "infinite guidance": ("guidance_scale", {"guidance_scale": math.inf}),
    "negative guidance": ("guidance_scale", {"guidance_scale": -0.1}),
    "huge guidance": ("guidance_scale", {"guidance_scale": 31}),
    "NaN adapter scale": ("adapter_scale", {"adapter_scale": math.nan}),
    "large adapter scale": ("adapter_scale", {"adapter_scale": 2.1}),
    "NaN variety": ("variety", {"variety": math.nan}),
    "infinite variety": ("variety", {"variety": math.inf}),
    "negative variety": ("variety", {"variety": -0.1}),
    "large variety": ("variety", {"variety": 2.1}),
    "negative seed": ("seed", {"seed": -1}),
    "unknown scheduler": ("scheduler", {"scheduler": 99}),
    "negative preview": ("preview_every_n_steps", {"preview_every_n_steps": -1}),
    "empty refused wish": ("refused_wishes[1]", {"refused_wishes": ["sequins", ""]}),
    "long refused wish": ("refused_wishes[0]", {"refused_wishes": ["x" * 101]}),
    "refused wish with NUL": ("refused_wishes[0]", {"refused_wishes": ["a\0b"]}),
    "many refused wishes": ("refused_wishes", {"refused_wishes": ["x"] * 65}),
    "strength without image": ("strength", {"strength": 0.5}),
    "zero strength": ("strength", {"strength": 0.0, "reference_image": png_of("red")}),
    "NaN strength": ("strength", {"strength": math.nan, "reference_image": png_of("red")}),
    "large strength": ("strength", {"strength": 1.01, "reference_image": png_of("red")}),
    "no image": ("reference_image", {"reference_image": b"hello"}),
    "cut-off image": ("reference_image", {"reference_image": png_of("red", (400, 400))[:-200]}),
    "other format": ("reference_image", {"reference_image": gif()}),
    "heavy image": ("reference_image", {"reference_image": png_of("red") + b"\0" * (10 * 2**20)}),
    "image bomb": ("reference_image", {"reference_image": bomb()}),
}


@pytest.mark.parametrize(("field", "changes"), BAD.values(), ids=BAD.keys())
async def test_a_bad_field_is_named_and_nothing_recorded(studio: Studio, field: str, changes: dict[str, Any]) -> None:
    asked = request(**changes)
    async with failing() as failure:
        await studio.stream(asked)
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT and set(failure.fields) == {field}
    assert not failure.retryable
    assert studio.models.asked == [] and studio.events.published == [] and studio.kept_pictures == 0
    assert await studio.groups_of("ada") == []
    if field != "request_id":  # the id was not used up
        assert await studio.group(request(request_id=asked.request_id))


async def test_every_bad_field_is_named_at_once(studio: Studio) -> None:
    async with failing() as failure:
        await studio.stream(request(prompt="", num_steps=0, guidance_scale=math.nan))
    assert set(failure.fields) == {"prompt", "num_steps", "guidance_scale"}


async def test_an_unknown_user_is_not_found_and_nothing_recorded(studio: Studio) -> None:
    asked = request(user_id="stranger")
    async with failing() as failure:
        await studio.stream(asked)
    assert failure.code == grpc.StatusCode.NOT_FOUND
    assert await studio.groups_of("stranger") == [] and studio.events.published == []
    assert await studio.group(request(request_id=asked.request_id))


async def test_an_expired_deadline_ends_the_call_and_records_nothing(studio: Studio) -> None:
    studio.models.hold = asyncio.Event()
    async with failing() as failure:
        await studio.stream(request(), timeout=0.3)
    assert failure.code == grpc.StatusCode.DEADLINE_EXCEEDED
    studio.models.hold.set()
    assert await studio.groups_of("ada") == [] and studio.events.published == []


async def test_a_missing_release_is_unavailable(studio: Studio) -> None:
    (studio.settings.model_repository / "releases" / "current").unlink()
    async with failing() as failure:
        await studio.stream(request())
    assert failure.code == grpc.StatusCode.UNAVAILABLE and failure.retryable


@pytest.mark.parametrize("group_id", ["", "../../etc/passwd", "123"])
async def test_a_malformed_group_id_is_named(studio: Studio, group_id: str) -> None:
    async with failing() as failure:
        await studio.stub.GetGroup(pb.GetGroupRequest(group_id=group_id))
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT and set(failure.fields) == {"group_id"}


async def test_an_unknown_view_is_named(studio: Studio) -> None:
    async with failing() as failure:
        await studio.stub.GetGroup(pb.GetGroupRequest(group_id=str(uuid4()), view=9))
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT and set(failure.fields) == {"view"}


@pytest.mark.parametrize(("release", "code"), [(-1, "INVALID_ARGUMENT"), (9, "FAILED_PRECONDITION")])
async def test_a_release_that_is_not_there_tells_nothing(studio: Studio, release: int, code: str) -> None:
    async with failing() as failure:
        await studio.stub.GetReleaseInfo(pb.GetReleaseInfoRequest(release=release))
    assert failure.code.name == code


async def test_an_unknown_group_is_not_found(studio: Studio) -> None:
    async with failing() as failure:
        await studio.stub.GetGroup(pb.GetGroupRequest(group_id=str(uuid4())))
    assert failure.code == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("field", "query"),
    [
        ("user_id", pb.ListGroupsRequest()),
        ("page_size", pb.ListGroupsRequest(user_id="ada", page_size=-1)),
        ("page_size", pb.ListGroupsRequest(user_id="ada", page_size=101)),
        ("page_token", pb.ListGroupsRequest(user_id="ada", page_token="made up")),
        ("page_token", pb.ListGroupsRequest(user_id="ada", page_token="é")),
        ("page_token", pb.ListGroupsRequest(user_id="ada", page_token="W10=")),
    ],
)
async def test_a_bad_list_query_is_named(studio: Studio, field: str, query: pb.ListGroupsRequest) -> None:
    async with failing() as failure:
        await studio.stub.ListGroups(query)
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT and set(failure.fields) == {field}


@pytest.mark.parametrize(
    ("field", "query"),
    [
        ("user_id", pb.SuggestPhrasesRequest(prompt="dress")),
        ("prompt", pb.SuggestPhrasesRequest(user_id="ada", prompt="x" * 1001)),
        ("prefix", pb.SuggestPhrasesRequest(user_id="ada", prefix="x" * 101)),
        ("max_suggestions", pb.SuggestPhrasesRequest(user_id="ada", max_suggestions=51)),
    ],
)
async def test_a_bad_suggestion_query_is_named(studio: Studio, field: str, query: pb.SuggestPhrasesRequest) -> None:
    async with failing() as failure:
        await studio.stub.SuggestPhrases(query)
    assert failure.code == grpc.StatusCode.INVALID_ARGUMENT and set(failure.fields) == {field}
