"""Pages of a list, and their tokens, which are opaque to clients.

A list goes by the number that the database counted for each of its rows, the greatest first; a token holds the last
number given. It knows the token's form; not what is listed.
"""

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass

from contract import limits
from services.runtime.fields import Fields


@dataclass(frozen=True)
class Page:
    """A part of a list."""

    size: int  # rows at most
    after: int | None  # the number of the last row of the page before; None: the first page


def page_of(fields: Fields, page_size: int, page_token: str, scope: Sequence[str]) -> Page:
    """The page that a request asks for; `scope` names the list, in which alone its tokens hold."""
    fields.require(0 <= page_size <= limits.MAX_PAGE_SIZE, "page_size", f"must be 0 to {limits.MAX_PAGE_SIZE}")
    after = None
    if page_token:
        try:
            after = _number_of(page_token, scope)
        except ValueError as problem:
            fields.refuse("page_token", str(problem))
    return Page(page_size or limits.DEFAULT_PAGE_SIZE, after)


def token_of(scope: Sequence[str], number: int | None) -> str:
    """The token of the page after a row's number; "" for None."""
    if number is None:
        return ""
    return base64.urlsafe_b64encode(json.dumps([*scope, number]).encode()).decode()


def _number_of(token: str, scope: Sequence[str]) -> int:
    """The number that `token_of` encoded for this list; ValueError, with the client's message, for any other token."""
    try:
        *of_list, number = json.loads(base64.urlsafe_b64decode(token.encode("ascii")))
        is_number = type(number) is int and 0 < number < 2**63
    except (ValueError, TypeError, RecursionError, binascii.Error) as error:
        raise ValueError("was not given by this service") from error
    if not is_number:
        raise ValueError("was not given by this service")
    if of_list != list(scope):
        raise ValueError("belongs to another list")
    return int(number)
