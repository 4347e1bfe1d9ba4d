"""A group and its counting pick as a row of the groups' table.

The row has the columns of training.data.columns, and these, which trainings do not read. The prompt is the canonical
one, which models read; of groups from before there were labels that is the prompt as received.

    request_id     string     the request that made the group
    feedback_time  timestamp  when the counting pick was first recorded
    sequence       int64      of the counting pick
    arm            string     live, mixed, exploration or holdback (contract.rollout); null: from before there were arms
    propensity     float64    the chance of what was drawn, as the event says it
    trial_release  int64      the release on trial in a group that was to be mixed; arm live: it could not draw its part
    candidates     also: release, wishes, score, rank, seed

Knows the two messages; nothing about where they are kept.
"""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
from perfusion.v1.events_pb2 import FeedbackGiven, GroupGenerated
from perfusion.v1.group_pb2 import Arm, Candidate
from perfusion.v1.user_pb2 import FeatureValue

from training.retraining.incoming import Event

ORIGIN = "feedback"
_TIME = pa.timestamp("us", tz="UTC")
GROUPS_SCHEMA = pa.schema([
    ("group_id", pa.string()), ("user_id", pa.string()), ("prompt", pa.string()), ("features", pa.string()),
    ("candidates", pa.list_(pa.struct([
        ("image_id", pa.string()), ("uri", pa.string()), ("selected", pa.bool_()), ("release", pa.int64()),
        ("wishes", pa.list_(pa.string())), ("score", pa.float64()), ("rank", pa.int32()), ("seed", pa.int64()),
    ]))),
    ("origin", pa.string()), ("create_time", _TIME), ("release", pa.int64()),
    ("request_id", pa.string()), ("feedback_time", _TIME), ("sequence", pa.int64()),
    ("arm", pa.string()), ("propensity", pa.float64()), ("trial_release", pa.int64()),
])  # fmt: skip


def counting(picks: Iterable[Event]) -> Event:
    """Of one group's picks the one that counts: the greatest sequence; of those without one, the last in its topic."""
    return max(picks, key=lambda event: (event.pick.sequence, event.record.origin.offset))


def misfit(pick: FeedbackGiven, group: GroupGenerated) -> str | None:
    """Why a pick is not of this group; None: it is."""
    if pick.user_id != group.user_id:
        return "the group is another user's"
    there = {candidate.image_id for candidate in group.candidates}
    strange = [name for name in (*pick.selected_image_ids, *pick.unselected_image_ids) if name not in there]
    return f"the group has no picture {strange[0]}" if strange else None


def row_of(group: GroupGenerated, pick: FeedbackGiven) -> dict[str, Any]:
    """The group with this pick."""
    selected = set(pick.selected_image_ids)
    ranked = sorted(group.candidates, key=lambda candidate: candidate.rank)
    return {
        "group_id": group.group_id, "user_id": group.user_id, "prompt": group.canonical_prompt or group.prompt,
        "features": json.dumps(_features(group), sort_keys=True),
        "candidates": [_candidate(entry, group.release, entry.image_id in selected) for entry in ranked],
        "origin": ORIGIN, "create_time": _in_ms(group.create_time.ToDatetime(UTC)), "release": group.release,
        "request_id": group.request_id, "feedback_time": _in_ms(pick.feedback_time.ToDatetime(UTC)),
        "sequence": pick.sequence, **_assignment(group),
    }  # fmt: skip


def _features(group: GroupGenerated) -> dict[str, Any]:
    values = {name: _value(value) for name, value in group.user_features.items()}
    return {name: value for name, value in values.items() if value is not None}


def _value(value: FeatureValue) -> Any:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "string_list_value":
            return list(value.string_list_value.values)
        case "number_value":
            return value.number_value
    return None


def _candidate(entry: Candidate, release: int, selected: bool) -> dict[str, Any]:
    return {
        "image_id": entry.image_id, "uri": entry.uri, "selected": selected, "release": entry.release or release,
        "wishes": list(entry.wishes), "score": entry.score, "rank": entry.rank, "seed": entry.seed,
    }  # fmt: skip


def _assignment(group: GroupGenerated) -> dict[str, Any]:
    """How the group's release was drawn; nothing is known of groups from before that was said."""
    if not group.HasField("assignment"):
        return {"arm": None, "propensity": None, "trial_release": None}
    drawn = group.assignment
    return {
        "arm": Arm.Name(drawn.arm).removeprefix("ARM_").lower() if drawn.arm else None,
        "propensity": drawn.propensity, "trial_release": drawn.trial_release or None,
    }  # fmt: skip


def _in_ms(time: datetime) -> datetime:
    return time.replace(microsecond=time.microsecond // 1000 * 1000)
