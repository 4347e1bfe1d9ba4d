"""The table of who may call what, against the API itself: no method is without a row, every merchant is looked at."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, MethodDescriptor
from google.protobuf.message import Message
from perfusion.v1 import (  # noqa: F401 - so that the pool knows the services
    feedback_service_pb2,
    generation_service_pb2,
    items_service_pb2,
    ranking_service_pb2,
    user_embedding_service_pb2,
)

from services.feedback.requests import part_of
from services.runtime import callers
from services.runtime.access import NOBODY, OWNER, TABLE, check_caller, check_request, check_rows
from services.runtime.callers import Caller
from services.runtime.errors import PermissionDenied

SERVICES = ("UserEmbeddingService", "GenerationService", "RankingService", "FeedbackService", "ItemsService")
OWNED = {"group_id", "presale_id", "order_id"}  # what its service alone knows whose it is
MERCHANT = ("user_id", "user_ids")  # how the API's requests name one
CHECKED = ("UserEmbedding",)  # whose user must be the request's: tests/services/ranking/test_servicer.py
MINE = Caller("client/shop", frozenset({"mine", "ours"}))


def methods() -> dict[str, MethodDescriptor]:
    pool = descriptor_pool.Default()
    found = [pool.FindServiceByName(f"perfusion.v1.{service}") for service in SERVICES]
    return {f"{service.full_name}/{method.name}": method for service in found for method in service.methods}


def merchant_fields(message: Descriptor, before: str = "") -> Iterator[str]:
    """Every field of a request, or of what it holds, that names a merchant."""
    for field in message.fields:
        if field.name in MERCHANT:
            yield before + field.name
        elif field.message_type is not None and field.message_type.name not in CHECKED:
            yield from merchant_fields(field.message_type, f"{before}{field.name}.")


def about(method: MethodDescriptor, merchant: str, user_id: str) -> Any:
    """A request about a merchant."""
    request: Any = message_factory.GetMessageClass(method.input_type)()
    *path, field = merchant.split(".")
    holder = request
    for name in path:
        holder = getattr(holder, name).add()
    if isinstance(getattr(holder, field), str):
        setattr(holder, field, user_id)
    else:
        getattr(holder, field).extend(["mine", user_id])
    return request


def test_every_method_has_its_row_with_the_merchant_that_it_names() -> None:
    assert TABLE.keys() == methods().keys()
    for name, method in methods().items():
        named = list(merchant_fields(method.input_type))
        assert named == ([] if TABLE[name].merchant in (NOBODY, OWNER) else [TABLE[name].merchant]), name
        by_id = {field.name for field in method.input_type.fields} & OWNED
        assert named or (TABLE[name].merchant == OWNER) == bool(by_id), name


def test_a_method_without_a_row_keeps_its_service_from_starting() -> None:
    check_rows(TABLE)
    with pytest.raises(ValueError, match=r"no row for perfusion\.v1\.RankingService/Sort"):
        check_rows([*TABLE, "perfusion.v1.RankingService/Sort"])


NAMING = [name for name, rule in TABLE.items() if rule.merchant not in (NOBODY, OWNER)]


@pytest.mark.parametrize("name", [name for name in NAMING if not methods()[name].client_streaming])
def test_another_merchant_is_refused_by_field_in_every_method(name: str) -> None:
    method, merchant = methods()[name], TABLE[name].merchant
    check_request(name, MINE, about(method, merchant, "ours"))
    check_request(name, Caller("service/generation", None), about(method, merchant, "theirs"))
    with pytest.raises(PermissionDenied) as refused:
        check_request(name, MINE, about(method, merchant, "theirs"))
    field, _, of_entry = merchant.partition(".")
    named = field if field == "user_id" else f"{field}[0].{of_entry}" if of_entry else f"{field}[1]"
    assert refused.value.metadata["field"] == named
    empty: Message = about(method, merchant, "")
    check_request(name, MINE, empty)  # which the service refuses as empty


@pytest.mark.parametrize("name", [name for name in NAMING if methods()[name].client_streaming])
def test_of_a_stream_each_entry_is_refused_by_itself(name: str) -> None:
    assert name == "perfusion.v1.FeedbackService/ImportFeedback", "give the new stream its own lines here"
    callers.begin(MINE)
    request = feedback_service_pb2.ImportFeedbackRequest()
    for user_id in ("mine", "theirs", "ours", ""):
        request.requests.add(request_id=str(uuid4()), group_id=str(uuid4()), user_id=user_id)
    kinds = [type(pick).__name__ for pick in part_of(request)]
    assert kinds == ["Pick", "PermissionDenied", "Pick", "InvalidArgument"]
    callers.begin(callers.DEVELOPMENT)


@pytest.mark.parametrize("name", TABLE)
def test_parts_call_what_their_work_needs_and_clients_everything(name: str) -> None:
    check_caller(name, MINE)
    for service in ("user_embedding", "generation", "ranking", "feedback", "items", "triton", "elsewhere"):
        if service in TABLE[name].services:
            check_caller(name, Caller(f"service/{service}", None))
        else:
            with pytest.raises(PermissionDenied, match=f"service/{service} may not call {name.rpartition('/')[2]}"):
                check_caller(name, Caller(f"service/{service}", None))
