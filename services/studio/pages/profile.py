"""The merchant's profile: a field a feature of the release."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response
from perfusion.v1 import release_pb2
from perfusion.v1.user_pb2 import FeatureValue, StringList

from services.runtime.errors import InvalidArgument
from services.studio.problems import by_field
from services.studio.visits import Acting, Form, Visit, to

router = APIRouter()
_PREFIX = "feature_"
_MULTI, _NUMERIC = release_pb2.FEATURE_KIND_MULTI, release_pb2.FEATURE_KIND_NUMERIC


@router.get("/profile")
async def look(visit: Acting, first: bool = False, saved: bool = False) -> Response:
    features = await visit.studio.platform.profile(visit.user_id) or {}
    values = {name: plain(value) for name, value in features.items()}
    return await _page(visit, values, first=first, saved=saved)


@router.post("/profile")
async def change(sent: Form) -> Response:
    visit, texts = sent.visit, sent.texts()
    release = await visit.release()
    values: dict[str, Sequence[str]] = {
        feature.name: given for feature in release.features if (given := _given(texts, feature.name))
    }
    try:
        features = {
            feature.name: _feature(feature, values[feature.name])
            for feature in release.features
            if feature.name in values
        }
        await visit.studio.platform.put_profile(visit.user_id, features)
    except InvalidArgument as error:
        return await _page(visit, values, error=error, status=400)
    return to("/" if sent.text("first") else "/profile?saved=1")


async def _page(
    visit: Visit,
    values: Mapping[str, Sequence[str]],
    *,
    first: bool = False,
    saved: bool = False,
    error: InvalidArgument | None = None,
    status: int = 200,
) -> Response:
    words = await visit.words()
    content: dict[str, Any] = {
        "features": words.release.features,
        "values": values,
        "words": words,
        "first": first,
        "saved": saved,
        "problems": by_field(error, visit.language, _name_in),
        "multi": _MULTI,
        "numeric": _NUMERIC,
    }
    return visit.show("profile.html", status, **content)


def _name_in(path: str) -> str:
    """The feature's name, from its path in the request."""
    return path.removeprefix("profile.").removeprefix("features[").partition("]")[0].strip("'\"")


def plain(value: FeatureValue) -> Sequence[str]:
    """A value's words, or its number as people write it."""
    match value.WhichOneof("kind"):
        case "string_value":
            return [value.string_value]
        case "string_list_value":
            return list(value.string_list_value.values)
    return [f"{value.number_value:.15g}"]


def _given(texts: Mapping[str, Sequence[str]], name: str) -> list[str]:
    return [text.strip() for text in texts.get(_PREFIX + name, ()) if text.strip()]


def _feature(feature: release_pb2.ProfileFeature, given: Sequence[str]) -> FeatureValue:
    """
    Raises:
        InvalidArgument: a number is none.
    """
    if feature.kind == _MULTI:
        return FeatureValue(string_list_value=StringList(values=given))
    if feature.kind != _NUMERIC:
        return FeatureValue(string_value=given[-1])
    try:
        return FeatureValue(number_value=float(given[-1]))
    except ValueError:
        raise InvalidArgument((f"features[{feature.name}]", "must be a number")) from None
