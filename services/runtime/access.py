"""Which caller may do what, and for whose merchants: TABLE has a row for every method of the API.

A part of the platform may call the methods that name it, for any merchant. A client may call what is open to clients,
for the merchants of its token (callers.py). What no row allows is refused.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

from services.runtime.callers import DEVELOPMENT, SERVICE, Caller, denied
from services.runtime.errors import PermissionDenied

NOBODY = ""  # what the method says is no merchant's
OWNER = "the owner"  # of what the request names by an id of its own: the service looks at it, callers.acts_for


@dataclass(frozen=True)
class Rule:
    """Who may call a method; `merchant` is the request's field that names whose it is about.

    "events.user_id" is the field of each entry of a list. Of a stream ("requests.user_id") the service itself looks at
    it, callers.require: one entry's refusal is that entry's answer.
    """

    merchant: str
    services: frozenset[str] = frozenset()  # beside clients


def _by(*services: str) -> frozenset[str]:
    return frozenset(services)


TABLE: Mapping[str, Rule] = {
    f"perfusion.v1.{method}": rule
    for method, rule in {
        "UserEmbeddingService/PutUserProfile": Rule("user_id"),
        "UserEmbeddingService/GetUserProfile": Rule("user_id", _by("generation")),
        "UserEmbeddingService/GetUserEmbedding": Rule("user_id", _by("generation", "ranking")),
        "UserEmbeddingService/BatchGetUserEmbeddings": Rule("user_ids"),
        "GenerationService/Generate": Rule("user_id"),
        "GenerationService/GetGroup": Rule(OWNER, _by("feedback", "items")),
        "GenerationService/ListGroups": Rule("user_id"),
        "GenerationService/SuggestPhrases": Rule("user_id"),
        "GenerationService/GetReleaseInfo": Rule(NOBODY),
        "RankingService/Rank": Rule("user_id", _by("generation")),
        "FeedbackService/SubmitFeedback": Rule("user_id"),
        "FeedbackService/ImportFeedback": Rule("requests.user_id"),
        "FeedbackService/GetFeedback": Rule("user_id"),
        "FeedbackService/ListFeedback": Rule("user_id"),
        "ItemsService/CreatePresale": Rule("user_id"),
        "ItemsService/UpdatePresale": Rule("user_id"),
        "ItemsService/OpenPresale": Rule("user_id"),
        "ItemsService/CancelPresale": Rule("user_id"),
        "ItemsService/DecidePresale": Rule("user_id"),
        "ItemsService/DelayPresale": Rule("user_id"),
        "ItemsService/FailProduction": Rule("user_id"),
        "ItemsService/GetPresale": Rule(OWNER),
        "ItemsService/ListPresales": Rule("user_id"),
        "ItemsService/PlaceOrder": Rule(OWNER),
        "ItemsService/GetOrder": Rule(OWNER),
        "ItemsService/ListOrders": Rule("user_id"),
        "ItemsService/CancelOrder": Rule(OWNER),
        "ItemsService/AnswerDelay": Rule(OWNER),
        "ItemsService/ShipOrder": Rule("user_id"),
        "ItemsService/ReceivePaymentEvent": Rule(NOBODY),
        "ItemsService/ListChanges": Rule("user_id"),
        "ItemsService/RecordShopEvents": Rule("events.user_id"),
    }.items()
}


def check_rows(methods: Iterable[str]) -> None:
    """Raises ValueError for a method without a row, which nobody could call."""
    if missing := [method for method in methods if method not in TABLE]:
        raise ValueError(f"services/runtime/access.py has no row for {', '.join(missing)}")


def check_caller(method: str, caller: Caller) -> None:
    """Before the request is read; raises PermissionDenied. `method` is such as "perfusion.v1.RankingService/Rank"."""
    if caller.name.startswith(SERVICE) and caller.service not in TABLE[method].services:
        raise PermissionDenied(f"{caller.name} may not call {method.rpartition('/')[2]}")


def check_request(method: str, caller: Caller, request: Message) -> None:
    """Raises PermissionDenied where the request is about a merchant that the caller may not act for."""
    merchant = TABLE[method].merchant
    if merchant in (NOBODY, OWNER) or caller is DEVELOPMENT:
        return
    for field, user_id in _named(request, merchant):
        if user_id and not caller.acts_for(user_id):  # an empty one is refused as such
            raise denied(field)


def _named(request: Any, field: str) -> Iterator[tuple[str, str]]:
    field, _, of_entry = field.partition(".")
    found = getattr(request, field)
    if of_entry:
        yield from ((f"{field}[{i}].{of_entry}", getattr(each, of_entry)) for i, each in enumerate(found))
    elif isinstance(found, str):
        yield field, found
    else:
        yield from ((f"{field}[{i}]", each) for i, each in enumerate(found))
