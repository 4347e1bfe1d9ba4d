"""Where reading goes on, and what is refused rather than skipped."""

import re

import pytest

from contract.topics import Partition
from training.retraining.broker import Bounds
from training.retraining.offsets import OffsetsLost, moved, name_of, starts

OLD = Partition("cluster-a", "groups", "id-1", 0)


def known(**offsets: int) -> dict[str, int]:
    """What a table carries that has read up to here."""
    return moved({OLD: offsets["at"]})


def start(table: dict[str, int], p: Partition, begin: int, end: int, *accepted: str) -> int:
    return starts(table.get, {p: Bounds(begin, end)}, accepted)[p]


def test_a_new_table_begins_where_kafka_does() -> None:
    assert start({}, OLD, 0, 10) == 0 and start({}, OLD, 4, 10) == 4


@pytest.mark.parametrize("at", [0, 4, 10])
def test_it_goes_on_from_the_table(at: int) -> None:
    assert start(known(at=at), OLD, 0, 10) == at


def test_a_partition_that_was_added_since_begins_at_its_beginning() -> None:
    added = Partition("cluster-a", "groups", "id-1", 1)
    assert start(known(at=4), added, 0, 10) == 0
    assert start(known(at=4), Partition("cluster-a", "another topic", "id-9", 0), 0, 10) == 0


LOSSES = {
    "another Kafka cluster": (Partition("cluster-b", "groups", "id-1", 0), 0, 10, 0),
    "was made anew": (Partition("cluster-a", "groups", "id-2", 0), 0, 10, 0),
    "Kafka has lost records": (OLD, 0, 3, 0),
    "have ended unread": (OLD, 7, 10, 7),
}


@pytest.mark.parametrize("why", LOSSES)
def test_a_loss_is_refused_until_it_is_accepted_by_its_name(why: str) -> None:
    partition, begin, end, goes_on = LOSSES[why]
    with pytest.raises(OffsetsLost, match=why) as refused:
        start(known(at=4), partition, begin, end)
    found = re.search(r"--accept (\S+)$", str(refused.value))
    assert found
    assert start(known(at=4), partition, begin, end, found[1]) == goes_on
    with pytest.raises(OffsetsLost, match=why):
        start(
            known(at=5),
            partition,
            begin + (why == "have ended unread"),
            end - 1,
            "cluster:cluster-c",
            "end:groups/0:9-3",
        )


def test_what_was_accepted_once_does_not_accept_the_next_loss() -> None:
    name = "begin:groups/0:4-7"
    assert start(known(at=4), OLD, 7, 10, name) == 7
    with pytest.raises(OffsetsLost):
        start(known(at=8), OLD, 9, 10, name)


def test_each_partition_has_a_name_of_its_own() -> None:
    others = [
        Partition(*fields) for fields in (("cluster-b", *("groups", "id-1"), 0), ("cluster-a", "groups", "id-1", 1))
    ]
    assert len({name_of(p) for p in (OLD, *others)}) == 3
