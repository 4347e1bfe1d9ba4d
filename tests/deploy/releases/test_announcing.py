"""What Kafka is told of a change, and a Kafka that does not answer; a real broker: tests/integration."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest
from kafka.errors import KafkaTimeoutError
from perfusion.v1 import events_pb2

from contract import topics
from contract.kafka_access import KafkaAccess
from contract.repository import ANNOUNCING, LockedError, Repository
from deploy.releases import __main__ as command
from deploy.releases import announcing
from deploy.releases.announcing import AnnouncementError, announce, message
from deploy.releases.arguments import KAFKA_VARIABLE
from deploy.releases.controller import Controller
from deploy.releases.history import History

LIMIT_S = 60.0  # of a busy machine; without bounds of its own Kafka's client tries for minutes


@pytest.fixture(params=["nobody listens", "nobody answers"])
def silent(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a Kafka that is gone, or hangs."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        if request.param == "nobody answers":
            taken.listen()
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def test_an_event_has_the_whole_state(controller: Controller, repository: Repository) -> None:
    controller.restore()
    controller.load(2)
    controller.shares(exploration=0.05, holdback=0.02, base=1)
    controller.trial(2, 0.5, "its gate passed")
    controller.promote(2, "e-value 31")
    _, trial, promotion = History(repository.root).changes()
    event = message(trial)
    assert (event.name, event.change) == ("perfusion", events_pb2.CHANGE_TRIAL_STARTED)
    assert (event.release, event.previous_release, event.fallback_release, event.trial_release) == (1, 1, 0, 2)
    assert (event.mixed_share, event.exploration_share, event.holdback_share) == (0.5, 0.05, 0.02)
    assert (event.base_release, event.reason) == (1, "its gate passed")
    assert event.change_time.ToMilliseconds() == round(trial.time.timestamp() * 1000)
    event = message(promotion)
    assert (event.release, event.previous_release, event.fallback_release, event.trial_release) == (2, 1, 1, 0)


class Broker:
    """In the place of a producer: notes what it is sent, and fails at the n-th."""

    def __init__(self, fails_at: int, error: Exception) -> None:
        self.sent: list[tuple[bytes, bytes, bytes]] = []  # key, value, event id
        self._fails_at, self._error = fails_at, error

    def send(self, topic: str, *, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> "Broker":
        assert topic == topics.RELEASES
        self.sent.append((key, value, dict(headers)[topics.HEADER_EVENT_ID]))
        return self

    def get(self, timeout: float) -> None:
        if len(self.sent) == self._fails_at:
            raise self._error

    def close(self, timeout: float) -> None:
        pass


def test_what_was_not_acknowledged_is_published_again_with_the_same_id_and_bytes(
    controller: Controller, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller.restore()
    controller.shares(exploration=0.05)
    controller.shares(exploration=0.1, reason="more of it")
    broker = Broker(2, KafkaTimeoutError("no answer"))
    monkeypatch.setattr(announcing, "_connected", lambda kafka, limit_ms: broker)
    with pytest.raises(AnnouncementError, match="no answer"):
        announce(repository, KafkaAccess("localhost:9092"))
    assert [change.reason for change in History(repository.root).owed()] == ["more of it"]
    assert announce(repository, KafkaAccess("localhost:9092")) == 1
    first, second, again = broker.sent
    assert again == second and first[1:] != second[1:]
    assert History(repository.root).owed() == []


@pytest.mark.parametrize("error", [RuntimeError("a thread too many"), AssertionError(), KafkaTimeoutError("late")])
def test_whatever_a_publication_dies_of_nothing_counts_as_published(
    error: Exception, controller: Controller, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller.restore()
    controller.shares(exploration=0.05)
    monkeypatch.setattr(announcing, "_connected", lambda kafka, limit_ms: Broker(1, error))
    with pytest.raises(AnnouncementError, match=str(error) or "AssertionError"):
        announce(repository, KafkaAccess("localhost:9092"))
    assert len(History(repository.root).owed()) == 1


def test_a_change_is_made_whatever_its_announcement_dies_of(
    controller: Controller,
    repository: Repository,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def no_room(*_: object) -> int:
        raise OSError("no space left on device")

    monkeypatch.setattr(command, "announce", no_room)
    told = replace(controller, announce=command.Announcer(repository, "kafka:9092"))
    told.shares(exploration=0.05)
    told.shares(exploration=0.1)
    assert capsys.readouterr().err == "warning: no space left on device\n"
    assert len(History(repository.root).owed()) == 2


def test_every_change_has_a_name_in_the_api() -> None:
    from deploy.releases import history

    names = {value for name, value in vars(history).items() if name.isupper() and str(value).startswith("CHANGE_")}
    assert names == set(events_pb2.Change.keys()) - {"CHANGE_UNSPECIFIED"}


def test_nothing_is_asked_of_kafka_when_nothing_is_owed(silent: str, repository: Repository) -> None:
    assert announce(repository, KafkaAccess(silent)) == 0


def test_a_second_process_does_not_publish_beside_the_first(controller: Controller, repository: Repository) -> None:
    controller.shares(exploration=0.05)
    with repository.lock(ANNOUNCING, "announce"), pytest.raises(LockedError, match="is held by announce"):
        announce(repository, KafkaAccess("127.0.0.1:1"))


def test_a_step_is_done_and_owed_whatever_kafka_says(silent: str, repository: Repository) -> None:
    """In a process of its own: kafka-python leaves the socket behind that it is connecting when its time is over."""
    arguments = ["releases", "shares", "--exploration", ".05", "--repository", str(repository.root)]
    program = (
        "import sys; from deploy.releases import __main__ as command, announcing; announcing.LIMIT_S = 0.5;"
        f"sys.argv = {arguments!r}; sys.exit(command.main())"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), KAFKA_VARIABLE: silent}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=True
    )
    assert done.stdout == "exploration 5.0%\n"
    assert done.stderr.startswith(f"warning: Kafka at {silent} has not acknowledged")
    assert len(done.stderr.splitlines()) == 1
    assert len(History(repository.root).owed()) == 1
