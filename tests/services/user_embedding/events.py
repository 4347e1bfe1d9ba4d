"""Events of groups and picks as they lie in Kafka."""

from collections.abc import Mapping, Sequence

from perfusion.v1.events_pb2 import FeedbackGiven, GroupGenerated
from perfusion.v1.group_pb2 import Candidate

from contract.topics import FEEDBACK, GROUPS, Partition, headers
from services.runtime.clock import timestamp
from services.runtime.records import Record

TIME_US = 1_700_000_000_000_000
OF_GROUPS, OF_PICKS = Partition("cluster", GROUPS, "g", 0), Partition("cluster", FEEDBACK, "f", 0)


def record(topic: str, message: GroupGenerated | FeedbackGiven) -> Record:
    kind = message.DESCRIPTOR.full_name
    told = headers("7d9d5c3e-0000-4000-8000-000000000000", kind, timestamp(TIME_US).ToDatetime(), None)
    return Record(topic, message.user_id.encode(), message.SerializeToString(), dict(told))


def group_event(group_id: str, shown: Mapping[str, Sequence[str]], user_id: str = "u") -> Record:
    """A group; `shown` are wishes by image_id."""
    candidates = [Candidate(image_id=image_id, wishes=wishes) for image_id, wishes in shown.items()]
    message = GroupGenerated(group_id=group_id, user_id=user_id, candidates=candidates, create_time=timestamp(TIME_US))
    return record(GROUPS, message)


def pick_event(group_id: str, picked: Sequence[str], sequence: int, user_id: str = "u") -> Record:
    message = FeedbackGiven(group_id=group_id, user_id=user_id, selected_image_ids=picked, sequence=sequence)
    return record(FEEDBACK, message)
