"""Dead letters keep what they were; a topic that is missing is named."""

import pytest

from contract.topics import DEAD_LETTERS, GROUPS, RELEASES
from deploy.local.kafka_broker import COLLECTOR, NAME, access
from deploy.local.layout import Layout
from tests.training.retraining.events import Log, group
from training.retraining.broker import Broker, KafkaRefused, NotAllowed, _origin, dead_letter
from training.retraining.incoming import Origin, Record

WHERE = Origin("cluster-a", DEAD_LETTERS, "letters", 2, 9)


def test_a_letter_gives_its_record_back() -> None:
    (record,) = Log().put(group("a"))
    letter = Record(WHERE, record.key, record.value, (*record.headers, *_origin(record, "the value is empty")))
    assert dead_letter(letter) == (record, "the value is empty")


@pytest.mark.parametrize("headers", [(), (("origin-topic", GROUPS.encode()),)])
def test_a_letter_without_an_origin_is_not_ours(headers: tuple[tuple[str, bytes], ...]) -> None:
    with pytest.raises(KafkaRefused, match=r"perfusion\.dead-letters\.v1/2 at 9 is no dead letter of ours"):
        dead_letter(Record(WHERE, b"", b"", headers))


def test_partitions_are_named_by_cluster_and_topic_id_and_a_missing_topic_is_refused(kafka: Layout) -> None:
    broker, admin = Broker(access(kafka, COLLECTOR)), Broker(access(kafka, NAME))
    try:
        partitions = broker.partitions([GROUPS])
        assert [p.number for p in partitions] == [0, 1, 2] and len(
            {(p.cluster_id, p.topic_id) for p in partitions}
        ) == 1
        with pytest.raises(KafkaRefused, match="has no topic perfusion.none: create it"):
            admin.partitions(["perfusion.none"])
        with pytest.raises(NotAllowed, match=r"certificates/collect use perfusion\.releases\.v1"):
            broker.partitions([RELEASES])
    finally:
        broker.close()
        admin.close()
