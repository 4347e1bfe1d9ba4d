"""A token leads back to its place in its own user's list, and nothing else is taken for one."""

import base64

import pytest

from services.generation.pages import Position, position_of, token_of

HERE = Position(1_767_323_045_678_901, "6f1d9b1e-0000-4000-8000-00000000000a")


def test_a_token_leads_back_to_its_position() -> None:
    assert position_of(token_of("shop ☂", HERE), "shop ☂") == HERE


def test_a_token_of_another_users_list_is_refused() -> None:
    with pytest.raises(ValueError, match="another user"):
        position_of(token_of("ada", HERE), "bob")


@pytest.mark.parametrize("said", ['["ada", -1, "6f1d9b1e-0000-4000-8000-00000000000a"]', '["ada", 1, "g"]', "[1]", "{"])
def test_what_was_not_given_here_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match="not given by this service"):
        position_of(base64.urlsafe_b64encode(said.encode()).decode(), "ada")
