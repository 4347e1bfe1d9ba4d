"""The end of a page of a user's groups, and its token, which is opaque to clients.

It knows the token's form; not how groups are stored or asked for.
"""

import base64
import binascii
import json
from dataclasses import dataclass
from uuid import UUID


@dataclass(frozen=True)
class Position:
    """The next page begins after this group; newest first, groups of the same time by id."""

    create_time_us: int
    group_id: str


def token_of(user_id: str, position: Position) -> str:
    """The token of the position, valid in this user's list only."""
    said = [user_id, position.create_time_us, position.group_id]
    return base64.urlsafe_b64encode(json.dumps(said).encode()).decode()


def position_of(token: str, user_id: str) -> Position:
    """The position that `token_of` encoded for this user.

    Raises:
        ValueError: the token is invalid; the message is for the client.
    """
    try:
        of_user, create_time_us, group_id = json.loads(base64.urlsafe_b64decode(token.encode("ascii")))
        position = Position(int(create_time_us), str(UUID(group_id)))
        is_time = 0 <= position.create_time_us < 2**63
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError, binascii.Error) as error:
        raise ValueError("was not given by this service") from error
    if not is_time:
        raise ValueError("was not given by this service")
    if of_user != user_id:
        raise ValueError("belongs to another user's list")
    return position
