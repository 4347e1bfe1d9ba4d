"""Events as the services publish them, and Kafka's records of them, for the tests of collecting."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from perfusion.v1.events_pb2 import FeedbackGiven, GroupGenerated, ShopEvent, ShopEventKind

from contract import topics
from contract.topics import Partition
from training.retraining.incoming import Origin, Record

BEGIN = datetime(2026, 5, 1, tzinfo=UTC)
CLUSTER = "cluster-a"
TOPIC_IDS = {topics.GROUPS: "topic-groups", topics.FEEDBACK: "topic-feedback", topics.SHOP: "topic-shop"}
TOPIC_OF = {GroupGenerated: topics.GROUPS, FeedbackGiven: topics.FEEDBACK, ShopEvent: topics.SHOP}
_SPACE = UUID("5c3b2f0e-6f0c-4c3e-9a43-2b5f5a1d6c11")
Message = GroupGenerated | FeedbackGiven | ShopEvent


def uuid(name: str) -> str:
    """The same UUID for the same name."""
    return str(uuid5(_SPACE, name))


def group(name: str, user_id: str = "store-1", size: int = 3, at: int = 0, release: int = 4) -> GroupGenerated:
    """A group whose pictures are `<name>-0`, …; made so many seconds after BEGIN."""
    made = GroupGenerated(
        group_id=uuid(name), request_id=uuid(f"request {name}"), user_id=user_id, prompt="dress,v-neck", release=release
    )
    made.create_time.FromDatetime(BEGIN + timedelta(seconds=at))
    for place in range(size):
        made.candidates.add(
            image_id=uuid(f"{name}-{place}"), uri=f"file:///pictures/{name}-{place}.png", seed=place, rank=place + 1,
            score=1.0 - place / 10, wishes=["lace"],
        )  # fmt: skip
    made.user_features["style"].string_value = "luxury"
    return made


def pick(name: str, *selected: int, sequence: int = 1, user_id: str = "store-1", size: int = 3) -> FeedbackGiven:
    """A pick in the group of this name."""
    given = FeedbackGiven(
        request_id=uuid(f"pick {name} {sequence}"), group_id=uuid(name), user_id=user_id, release=4, sequence=sequence
    )
    given.feedback_time.FromDatetime(BEGIN + timedelta(hours=1))
    for place in range(size):
        named = given.selected_image_ids if place in selected else given.unselected_image_ids
        named.append(uuid(f"{name}-{place}"))
    return given


def shop(name: str, kind: str, event: int = 0, units: int = 0, place: int = 0, user_id: str = "store-1") -> ShopEvent:
    """What the `event`-th viewer did with the item that shows the picture `<name>-<place>`."""
    seen = ShopEvent(
        event_id=uuid(f"{name} {kind} {event}"), kind=ShopEventKind.Value(f"SHOP_EVENT_KIND_{kind.upper()}"),
        presale_id=uuid(f"item {name}-{place}"), user_id=user_id, group_id=uuid(name), image_id=uuid(f"{name}-{place}"),
        surface="search", position=event + 1, viewer_hash=f"viewer-{event:016d}", units=units, arm="treatment",
    )  # fmt: skip
    seen.event_time.FromDatetime(BEGIN + timedelta(hours=2, seconds=event))
    seen.item_create_time.FromDatetime(BEGIN + timedelta(hours=1))
    return seen


def headers_of(message: Message, event_id: str | None = None) -> list[tuple[str, bytes]]:
    """The envelope; the event's id is its own or follows from its content, unless it is given."""
    if event_id is None and isinstance(message, ShopEvent):
        event_id = message.event_id
    event_id = event_id or uuid(message.SerializeToString(deterministic=True).hex())
    return topics.headers(event_id, message.DESCRIPTOR.full_name, BEGIN, None)


@dataclass
class Log:
    """The topics, of one partition each, as Kafka would give them."""

    cluster: str = CLUSTER
    records: list[Record] = field(default_factory=list)

    def put(self, *messages: Message, event_id: str | None = None) -> list[Record]:
        """Appends these; returns their records."""
        for message in messages:
            topic = TOPIC_OF[type(message)]
            self.put_raw(topic, message.user_id.encode(), message.SerializeToString(), headers_of(message, event_id))
        return self.records[len(self.records) - len(messages) :]

    def put_raw(
        self, topic: str, key: bytes | None, value: bytes | None, headers: list[tuple[str, bytes]]
    ) -> list[Record]:
        """Appends whatever this is."""
        origin = Origin(self.cluster, topic, TOPIC_IDS[topic], 0, self.ends()[self.partition(topic)])
        self.records.append(Record(origin, key, value, tuple(headers)))
        return self.records[-1:]

    def partition(self, topic: str) -> Partition:
        return Partition(self.cluster, topic, TOPIC_IDS[topic], 0)

    def ends(self) -> dict[Partition, int]:
        """Where the partitions end."""
        return {self.partition(t): sum(r.origin.topic == t for r in self.records) for t in TOPIC_IDS}
