"""What a merchant's pick is, and when it may be believed.

Knows the rules: the group is this user's, every picked image was shown in it, none is picked twice, and a request
id stands for one pick for ever. Does not know gRPC, SQL, Kafka, or how a group is fetched.

An empty pick is a real one: "none of these pleases" makes every image of the group a negative. Picking again in the
same group under a new request id is allowed too (a merchant changes their mind); both events are kept, and the
reader of the topic decides which counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Pick:
    """What the client says, after its shape was checked."""

    request_id: str
    group_id: str
    user_id: str
    selected_image_ids: tuple[str, ...]


@dataclass(frozen=True)
class ShownGroup:
    """What the generation service says was shown."""

    group_id: str
    user_id: str
    release: int
    image_ids: tuple[str, ...]  # best first, as shown


@dataclass(frozen=True)
class Feedback:
    """One believed pick: all that its event will say, so that the event can be made again word for word."""

    event_id: str
    request_id: str
    group_id: str
    user_id: str
    release: int
    selected_image_ids: tuple[str, ...]  # in the order shown
    unselected_image_ids: tuple[str, ...]  # in the order shown
    create_time: datetime


class PickRefused(Exception):
    """Why a pick is not believed."""


class GroupUnknown(PickRefused):
    """No such group was ever shown."""


class GroupOfAnother(PickRefused):
    """The group was shown to somebody else."""


class NotShown(PickRefused):
    """Some picked images are not of the group."""

    def __init__(self, positions: list[int]) -> None:
        super().__init__(f"picked images at {positions} were not shown")
        self.positions = positions


class PickDiffers(PickRefused):
    """The request id already stands for another pick."""


def duplicates(image_ids: tuple[str, ...]) -> list[int]:
    """Positions of the ids that were already given before."""
    seen: set[str] = set()
    repeated = []
    for i, image_id in enumerate(image_ids):
        if image_id in seen:
            repeated.append(i)
        seen.add(image_id)
    return repeated


def believe(pick: Pick, group: ShownGroup | None, event_id: str, now: datetime) -> Feedback:
    """The record of a pick that the group bears out; PickRefused says why it does not."""
    if group is None:
        raise GroupUnknown
    if group.user_id != pick.user_id:
        raise GroupOfAnother
    if unknown := _not_shown(pick, group):
        raise NotShown(unknown)
    selected = set(pick.selected_image_ids)
    return Feedback(
        event_id=event_id,
        request_id=pick.request_id,
        group_id=pick.group_id,
        user_id=pick.user_id,
        release=group.release,
        selected_image_ids=tuple(i for i in group.image_ids if i in selected),
        unselected_image_ids=tuple(i for i in group.image_ids if i not in selected),
        create_time=now,
    )


def _not_shown(pick: Pick, group: ShownGroup) -> list[int]:
    shown = set(group.image_ids)
    return [i for i, image_id in enumerate(pick.selected_image_ids) if image_id not in shown]


def same_pick(pick: Pick, feedback: Feedback) -> bool:
    """Whether a repeated request says what it said the first time; the order of the images means nothing."""
    return (
        pick.group_id == feedback.group_id
        and pick.user_id == feedback.user_id
        and set(pick.selected_image_ids) == set(feedback.selected_image_ids)
    )
