"""What is an event and what is poison."""

from collections.abc import Callable
from typing import Any

import pytest

from contract import topics
from tests.training.retraining.events import BEGIN, Log, group, headers_of, pick, shop
from training.retraining.incoming import Poison, Record, event_of


def test_what_the_services_publish_is_an_event() -> None:
    log = Log()
    made, given = (event_of(record) for record in log.put(group("a"), pick("a", 1)))
    assert (made.user_id, made.group_id, made.event_time) == ("store-1", group("a").group_id, BEGIN)
    assert made.group == group("a") and given.pick == pick("a", 1)


def changed(message: Any, change: Callable[[Any], object]) -> Any:
    change(message)
    return message


MESSAGES = {
    "candidates": changed(group("a"), lambda g: g.ClearField("candidates")),
    "there twice": changed(group("a"), lambda g: g.candidates.append(g.candidates[0])),
    "no uri": changed(group("a"), lambda g: g.candidates[1].ClearField("uri")),
    "create_time is missing": changed(group("a"), lambda g: g.ClearField("create_time")),
    "create_time is no time": changed(group("a"), lambda g: setattr(g.create_time, "seconds", 2**60)),
    "group_id is empty": changed(pick("a"), lambda p: p.ClearField("group_id")),
    "named twice": changed(pick("a", 0), lambda p: p.unselected_image_ids.append(p.selected_image_ids[0])),
    "feedback_time is missing": changed(pick("a"), lambda p: p.ClearField("feedback_time")),
    "sequence is -1": pick("a", sequence=-1),
    "kind is 0": changed(shop("a", "click"), lambda s: s.ClearField("kind")),
    "kind is 9": changed(shop("a", "click"), lambda s: setattr(s, "kind", 9)),
    "presale_id is empty": changed(shop("a", "click"), lambda s: s.ClearField("presale_id")),
    "image_id is empty": changed(shop("a", "click"), lambda s: s.ClearField("image_id")),
    "a return of 0 units": shop("a", "order"),
    "event_time is missing": changed(shop("a", "click"), lambda s: s.ClearField("event_time")),
    "item_create_time is missing": changed(shop("a", "click"), lambda s: s.ClearField("item_create_time")),
}


@pytest.mark.parametrize("why", MESSAGES)
def test_a_message_that_contradicts_itself_is_poison(why: str) -> None:
    (record,) = Log().put(MESSAGES[why])
    with pytest.raises(Poison, match=why):
        event_of(record)


def test_an_event_of_the_shop_has_one_id() -> None:
    seen = shop("a", "click")
    (good,) = Log().put(seen)
    assert event_of(good).of_shop == seen
    (record,) = Log().put(seen, event_id=shop("a", "order").event_id)
    with pytest.raises(Poison, match="not the message's event_id"):
        event_of(record)


def without(name: str) -> list[tuple[str, bytes]]:
    return [(header, value) for header, value in headers_of(group("a")) if header != name]


GOOD = group("a").SerializeToString()
RECORDS: dict[str, tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]] = {
    "the value is no": (b"store-1", b"\xff\xff\xff", headers_of(group("a"))),
    "the value is empty": (b"store-1", None, headers_of(group("a"))),
    "the key is not": (b"store-2", GOOD, headers_of(group("a"))),
    "the key is not the": (None, GOOD, headers_of(group("a"))),
    "event-type is 'perfusion.v1.FeedbackGiven'": (b"store-1", GOOD, headers_of(pick("a"))),
    "event-id is missing": (b"store-1", GOOD, without("event-id")),
    "event-type is missing": (b"store-1", GOOD, without("event-type")),
    "event-time is missing": (b"store-1", GOOD, without("event-time")),
    "content-type is missing": (b"store-1", GOOD, without("content-type")),
    "event-id is '7', not a UUID": (b"store-1", GOOD, [*without("event-id"), ("event-id", b"7")]),
    "event-time is 'noon'": (b"store-1", GOOD, [*without("event-time"), ("event-time", b"noon")]),
    "without a zone": (b"store-1", GOOD, [*without("event-time"), ("event-time", b"2026-05-01T00:00:00")]),
    "event-id is not UTF-8": (b"store-1", GOOD, [*without("event-id"), ("event-id", b"\xff")]),
    "content-type is 'text/plain'": (b"store-1", GOOD, [*without("content-type"), ("content-type", b"text/plain")]),
}


@pytest.mark.parametrize("why", RECORDS)
def test_a_record_without_its_envelope_or_value_is_poison(why: str) -> None:
    (record,) = Log().put_raw(topics.GROUPS, *RECORDS[why])
    with pytest.raises(Poison, match=why):
        event_of(record)


@pytest.mark.parametrize("cut", range(0, len(GOOD), 7))
def test_a_value_that_was_cut_is_an_event_or_poison_and_never_another_error(cut: int) -> None:
    (record,) = Log().put_raw(topics.GROUPS, b"store-1", GOOD[:cut], headers_of(group("a")))
    assert is_told(record)


def is_told(record: Record) -> bool:
    try:
        event_of(record)
    except Poison as why:
        return bool(str(why))
    return True
