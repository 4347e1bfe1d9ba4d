"""A merchant's pick, and the rules for a valid one.

Knows the rules: the group is this user's, every picked image is in it, none is picked twice, and a request id
always stands for one pick. Does not know gRPC, SQL, Kafka, or how a group is fetched.

An empty pick ("none") is valid: it makes every image of the group a negative. A second pick in the same group under a
new request id is valid too (a merchant may correct a pick): both are kept and published, and the one recorded later
counts. Later is what the database counted later; no clock decides.
"""

from dataclasses import dataclass

from services.runtime.errors import AlreadyExists, InvalidArgument, NotFound, PermissionDenied

_MAX_NAMED = 10  # pictures named in one refusal


@dataclass(frozen=True)
class Pick:
    """The client's pick, after the check of its fields."""

    request_id: str
    group_id: str
    user_id: str
    selected_image_ids: tuple[str, ...]


@dataclass(frozen=True)
class ShownGroup:
    """A group as the generation service returns it."""

    group_id: str
    user_id: str
    release: int
    image_ids: tuple[str, ...]  # best first, as shown


@dataclass(frozen=True)
class Feedback:
    """One valid pick with all fields of its event."""

    event_id: str
    request_id: str
    group_id: str
    user_id: str
    release: int
    selected_image_ids: tuple[str, ...]  # in the order shown
    unselected_image_ids: tuple[str, ...]  # in the order shown
    create_time_us: int  # microseconds since 1970, UTC
    sequence: int = 0  # its place among its user's picks, from 1; 0 until it is recorded


def duplicates(image_ids: tuple[str, ...]) -> list[int]:
    """Positions of the ids that were already given before."""
    seen: set[str] = set()
    repeated = []
    for i, image_id in enumerate(image_ids):
        if image_id in seen:
            repeated.append(i)
        seen.add(image_id)
    return repeated


def believe(pick: Pick, group: ShownGroup | None, event_id: str, now_us: int) -> Feedback:
    """The record of a pick that is valid for this group.

    Raises:
        NotFound: no such group was ever shown.
        PermissionDenied: it was shown to another user.
        InvalidArgument: names the picked images that are not of the group.
    """
    if group is None:
        raise NotFound(f"group_id: there is no group {pick.group_id}", field="group_id")
    if group.user_id != pick.user_id:
        raise PermissionDenied("the group was made for another user")
    if unknown := [i for i, image_id in enumerate(pick.selected_image_ids) if image_id not in group.image_ids]:
        problem = f"is not a picture of group {pick.group_id}"
        raise InvalidArgument(*((f"selected_image_ids[{i}]", problem) for i in unknown[:_MAX_NAMED]))
    selected = set(pick.selected_image_ids)
    return Feedback(
        event_id=event_id,
        request_id=pick.request_id,
        group_id=pick.group_id,
        user_id=pick.user_id,
        release=group.release,
        selected_image_ids=tuple(i for i in group.image_ids if i in selected),
        unselected_image_ids=tuple(i for i in group.image_ids if i not in selected),
        create_time_us=now_us,
    )


def check_same(pick: Pick, feedback: Feedback) -> None:
    """Checks that a repeated request has the first one's payload; the order of the images does not count.

    Raises:
        AlreadyExists: the payload differs.
    """
    said = (pick.group_id, pick.user_id, set(pick.selected_image_ids))
    if said != (feedback.group_id, feedback.user_id, set(feedback.selected_image_ids)):
        raise AlreadyExists("request_id was used before for another pick")
