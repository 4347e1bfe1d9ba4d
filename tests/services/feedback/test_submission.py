"""The order of the steps: written down before it is announced, and marked only after Kafka has it."""

from dataclasses import replace

import pytest

from services.feedback.picks import Feedback, Pick, ShownGroup
from services.feedback.ports import Groups, Recorded, Records
from services.feedback.submission import Submissions
from services.runtime.errors import NotFound, Unavailable
from services.runtime.events import Event
from tests.services.feedback.fakes import FakeKafka

PICK = Pick("r", "g", "u", ("b",))
NOW_US = 1_767_312_000_000_000


class Shown(Groups):
    """Knows the group "g"."""

    async def get(self, group_id: str) -> ShownGroup | None:
        return ShownGroup("g", "u", 3, ("a", "b")) if group_id == "g" else None

    async def check(self) -> None:
        pass


class InMemory(Records):
    """Records by request id, and the steps in which they were written."""

    def __init__(self, steps: list[str]) -> None:
        self.recorded: dict[str, Recorded] = {}
        self._steps = steps

    async def find(self, request_id: str) -> Recorded | None:
        return self.recorded.get(request_id)

    async def add_pending(self, feedback: Feedback) -> Recorded:
        self._steps.append("written")
        return self.recorded.setdefault(feedback.request_id, Recorded(feedback, published=False))

    async def mark_published(self, request_id: str) -> None:
        self._steps.append("marked")
        self.recorded[request_id] = replace(self.recorded[request_id], published=True)


class Announcing(FakeKafka):
    def __init__(self, steps: list[str]) -> None:
        super().__init__()
        self._steps = steps

    async def publish(self, event: Event) -> None:
        self._steps.append("announced")
        await super().publish(event)


@pytest.fixture
def steps() -> list[str]:
    return []


@pytest.fixture
def submissions(steps: list[str]) -> Submissions:
    return Submissions(Shown(), InMemory(steps), Announcing(steps), "topic", lambda: "e", lambda: NOW_US)


async def test_a_pick_is_written_down_then_announced_then_marked(submissions: Submissions, steps: list[str]) -> None:
    feedback = await submissions.submit(PICK)
    assert feedback == Feedback("e", "r", "g", "u", 3, ("b",), ("a",), NOW_US)
    assert steps == ["written", "announced", "marked"]
    assert await submissions.submit(PICK) == feedback
    assert steps == ["written", "announced", "marked"]


async def test_what_was_not_acknowledged_is_announced_again_and_not_written_again(
    submissions: Submissions, steps: list[str]
) -> None:
    kafka = submissions.events
    assert isinstance(kafka, FakeKafka)
    kafka.deaf = True
    with pytest.raises(Unavailable):
        await submissions.submit(PICK)
    kafka.deaf = False
    await submissions.submit(PICK)
    assert steps == ["written", "announced", "announced", "marked"]
    assert kafka.taken[0] == kafka.taken[1] and kafka.taken[0].key == "u"


async def test_a_pick_that_is_not_believed_leaves_nothing(submissions: Submissions, steps: list[str]) -> None:
    with pytest.raises(NotFound):
        await submissions.submit(replace(PICK, group_id="h"))
    assert steps == []
