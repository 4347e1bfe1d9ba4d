"""Where reading goes on: the offsets in a table, held against what Kafka has.

The table alone says where to go on. Where Kafka cannot give what comes next (another cluster, a topic made anew,
records that ended before they were read), going on would lose events without a word: that is refused, unless the loss
is accepted by the very name that the refusal gives it. Knows offsets; reads no records.
"""

from collections.abc import Callable, Collection, Mapping

from contract.topics import Partition
from training.common.errors import ModelError
from training.retraining.broker import Bounds

_ANY = "kafka"  # carried by a table that has ever read from a Kafka
Read = Callable[[str], int | None]  # an application transaction's version, None if there is none


class OffsetsLost(ModelError):
    """Kafka no longer has what comes next; the message says what is lost and how to accept it."""


def name_of(partition: Partition) -> str:
    """The application transaction that holds a partition's next offset."""
    return f"{_topic(partition)}/{partition.topic_id}/{partition.number}"


def moved(offsets: Mapping[Partition, int]) -> dict[str, int]:
    """The application transactions that move partitions to these offsets."""
    known = {name: 1 for p in offsets for name in (_ANY, _cluster(p), _topic(p), f"{_topic(p)}/{p.topic_id}")}
    return known | {name_of(p): offset for p, offset in offsets.items()}


def starts(read: Read, bounds: Mapping[Partition, Bounds], accepted: Collection[str] = ()) -> dict[Partition, int]:
    """The next offset of each partition.

    Args:
        read: gives the table's application transactions.
        bounds: what Kafka holds.
        accepted: losses that the caller knows of, by the names that a refusal gives them.

    Raises:
        OffsetsLost: events are lost or may be.
    """
    return {p: _start(read, p, held, accepted) for p, held in bounds.items()}


def _start(read: Read, p: Partition, held: Bounds, accepted: Collection[str]) -> int:
    if read(_ANY) is None:
        return held.begin  # the table is new
    if read(_cluster(p)) is None:
        _accept(f"cluster:{p.cluster_id}", "the table was filled from another Kafka cluster", accepted)
        return held.begin
    if read(_topic(p)) is not None and read(f"{_topic(p)}/{p.topic_id}") is None:
        _accept(f"topic:{p.topic}:{p.topic_id}", f"the topic {p.topic} was made anew since", accepted)
        return held.begin
    stored = read(name_of(p)) or 0  # a partition that was added since begins at 0
    if stored > held.end:
        what = f"{p} ends at {held.end}, before {stored}, from where the table goes on: Kafka has lost records"
        _accept(f"end:{p}:{stored}-{held.end}", what, accepted)
        return held.begin  # others may lie at offsets that were read; what was read is known by its event-id
    if stored < held.begin:
        what = f"{p} begins at {held.begin}, the table goes on from {stored}: the records between have ended unread"
        _accept(f"begin:{p}:{stored}-{held.begin}", what, accepted)
        return held.begin
    return stored


def _accept(name: str, what: str, accepted: Collection[str]) -> None:
    if name not in accepted:
        raise OffsetsLost(
            f"{what}. Events may be missing from the table for good. Check that --kafka and --lake belong together; "
            f"to go on without what is lost: --accept {name}"
        )


def _cluster(p: Partition) -> str:
    return f"{_ANY}/{p.cluster_id}"


def _topic(p: Partition) -> str:
    return f"{_cluster(p)}/{p.topic}"
