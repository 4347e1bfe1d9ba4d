"""A token leads back to its place in its own list, and nothing else is taken for one."""

import base64

import pytest

from services.runtime.errors import InvalidArgument
from services.runtime.fields import Fields
from services.runtime.pages import Page, page_of, token_of

LIST = ("groups", "shop ☂")


def page(token: str, size: int = 0) -> Page:
    fields = Fields()
    found = page_of(fields, size, token, LIST)
    fields.done()
    return found


def test_a_token_leads_back_to_its_place() -> None:
    assert page(token_of(LIST, 2**62), 7) == Page(7, 2**62)


def test_without_a_token_a_list_begins_at_its_first_row() -> None:
    assert token_of(LIST, None) == "" and page("") == Page(20, None)


@pytest.mark.parametrize("other", [("groups", "bob"), ("feedback", "shop ☂"), ("groups", "shop ☂", "")])
def test_a_token_of_another_list_is_refused(other: tuple[str, ...]) -> None:
    with pytest.raises(InvalidArgument, match="another list"):
        page(token_of(other, 3))


@pytest.mark.parametrize(
    "said",
    [
        '["groups", "shop ☂", -1]',
        '["groups", "shop ☂", 0]',
        '["groups", "shop ☂", 1e30]',
        '["groups", "shop ☂", NaN]',
        '["groups", "shop ☂", true]',
        '["groups", "shop ☂", "6"]',
        '["groups", "shop ☂", 9223372036854775808]',
        "[1]",
        "[]",
        "7",
        "{",
        pytest.param("[" * 200_000, id="deep"),
    ],
)
def test_what_was_not_given_here_is_refused(said: str) -> None:
    with pytest.raises(InvalidArgument, match="page_token"):
        page(base64.urlsafe_b64encode(said.encode()).decode())


@pytest.mark.parametrize("size", [-1, 101])
def test_a_size_beyond_the_limits_is_refused(size: int) -> None:
    with pytest.raises(InvalidArgument, match="page_size: must be 0 to 100"):
        page("", size)
