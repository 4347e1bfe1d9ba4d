"""Releases beside a running Triton: staged, loaded, tried, promoted, rolled back, refused, under clients that call on.

On a Triton and a Kafka of its own with the project's newest export under several numbers: what differs between releases
is not the matter here.
"""

import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition
from perfusion.v1 import events_pb2
from tritonclient.utils import InferenceServerException

from contract import topics
from contract.release import MANIFEST
from contract.repository import CONTROL, LockedError, Repository, sha256
from contract.rollout import read_rollout
from deploy.local import model_processes, triton_server
from deploy.local.authority import Authority
from deploy.local.cluster import Cluster
from deploy.local.kafka_broker import NAME, access
from deploy.local.layout import Layout
from deploy.local.triton_server import CONTROLLER, client_of, server_of
from deploy.releases import __main__ as command
from deploy.releases.announcing import announce, message
from deploy.releases.controller import Controller
from deploy.releases.errors import ReleaseError, ServerError
from deploy.releases.history import ROLLED_BACK, History
from deploy.releases.lookback import served
from deploy.releases.server import Server
from deploy.releases.status import look
from tests.integration.client import wait_until
from tests.ports import free_offset
from tests.repositories import copy_of, replace_file, stage

MODELS = (
    "denoiser", "reward_image", "reward_text", "text_encoder", "user_encoder", "vae_decoder", "vae_encoder",
)  # fmt: skip
LIMIT_S = 120.0  # of a busy machine
ROLLBACK_S = 5.0
SLOW_DISK = timedelta(seconds=2)  # longest way from a change's time to its pointer


class Client(threading.Thread):
    """Calls every model of the live release, one after the other, until it is told to stop."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self._layout, self._repository = layout, Repository(layout.model_repository)
        self._stopped = threading.Event()
        self.answered: list[int] = []  # the release of each call
        self.seen: list[tuple[datetime, int]] = []  # when it read the pointer, and what it said
        self.failures: list[str] = []

    def run(self) -> None:
        with closing(server_of(self._layout)) as server:
            configs = {model: triton_server.configuration(self._repository.root, model) for model in MODELS}
            while not self._stopped.is_set():
                live = self._repository.live() or 0
                self.seen.append((datetime.now(UTC), live))
                for model in MODELS:
                    try:
                        server.prove(model, live, configs[model])
                        self.answered.append(live)
                    except ServerError as error:
                        self.failures.append(str(error))

    def stop(self) -> None:
        self._stopped.set()
        self.join(LIMIT_S)


@contextmanager
def calling(cluster: Cluster, number: int = 1) -> Iterator[Client]:
    """Clients that must hear from nothing: every call of theirs is answered. Gives one of them."""
    clients = [Client(cluster.layout) for _ in range(number)]
    for client in clients:
        client.start()
    try:
        wait_until(lambda: all(client.answered for client in clients), LIMIT_S)
        yield clients[0]
        already = len(clients[0].answered)
        wait_until(lambda: len(clients[0].answered) > already + len(MODELS), LIMIT_S)
    finally:
        for client in clients:
            client.stop()
    assert [failure for client in clients for failure in client.failures] == []


@pytest.fixture(scope="module")
def cluster(exported: Repository, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Triton, its keeper and Kafka, serving release 1 of a repository whose path has a blank."""
    root = tmp_path_factory.mktemp("releases") / "model repository"
    repository = copy_of(exported, root, [])
    stage(exported, exported.numbers()[-1], repository, 1)
    running = Cluster(Layout("releases", free_offset(), root), say=print)
    shutil.rmtree(running.layout.home, ignore_errors=True)
    try:
        running.up(["triton", "keeper", "kafka"])
        assert repository.live() == 1, "the first release of a repository disturbs nothing"
        yield running
    finally:
        running.down()


@pytest.fixture
def repository(cluster: Cluster) -> Repository:
    return Repository(cluster.layout.model_repository)


@pytest.fixture
def server(cluster: Cluster) -> Iterator[Server]:
    """Of a Triton that runs, whatever became of it before."""
    cluster.up(["triton", "keeper", "kafka"])
    with closing(server_of(cluster.layout)) as opened:
        yield opened


@pytest.fixture
def controller(repository: Repository, server: Server) -> Controller:
    return Controller(repository, [server], print, drain_s=0.0)


def loaded(server: Server) -> dict[str, set[int]]:
    """What is ready, of each model."""
    return {model: server.versions(model) for model in MODELS}


def everywhere(*numbers: int) -> dict[str, set[int]]:
    return {model: set(numbers) for model in MODELS}


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    replace_file(path, bytes(content))


def broken(repository: Repository, model: str, number: int) -> None:
    """A file that no backend can load though its hash is the manifest's: only Triton finds out."""
    path = repository.model_dir(model, number) / "model.onnx"
    replace_file(path, b"no graph")
    manifest = repository.release_dir(number) / MANIFEST
    said = json.loads(manifest.read_text())
    said["models"][model]["files"]["model.onnx"] = sha256(path)
    replace_file(manifest, json.dumps(said).encode())


def test_two_rejected_candidates_leave_the_live_release_as_it_was(
    cluster: Cluster, repository: Repository, controller: Controller, server: Server
) -> None:
    with calling(cluster) as client:
        for number in (2, 3):
            stage(repository, 1, repository, number)
            cluster.up(["triton", "keeper"])  # as `make up` would beside a running platform
            assert number not in server.versions("denoiser")
            controller.load(number)
            controller.trial(number, 0.5, "its offline gate passed")
            assert read_rollout(repository.root).trial == number
            controller.end_trial(number, "its traffic gate says: roll back")
            assert (repository.live(), repository.fallback()) == (1, None)
            assert loaded(server) == everywhere(1, number)
    assert set(client.answered) == {1}


def test_a_release_is_tried_promoted_and_rolled_back_in_seconds_under_clients_that_hear_nothing(
    cluster: Cluster,
    repository: Repository,
    controller: Controller,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    with calling(cluster, 3) as client:
        with pytest.raises(ReleaseError, match="has not loaded version 2 of denoiser; load release 2 first"):
            controller.promote(2)
        controller.shares(exploration=0.05, holdback=0.02, base=1)
        controller.trial(3, 0.5)
        controller.promote(3, "e-value 31")
        assert (repository.live(), repository.fallback(), read_rollout(repository.root).trial) == (3, 1, None)
        wait_until(lambda: 3 in client.answered[-3:], LIMIT_S)

        controller.trial(1, 0.5)
        begin = time.monotonic()
        controller.rollback("clients complain")
        took_s = time.monotonic() - begin
        record_testsuite_property("rollback_s", round(took_s, 2))
        assert took_s < ROLLBACK_S
        assert (repository.live(), repository.fallback(), read_rollout(repository.root).trial) == (1, 3, None)
        assert loaded(server) == everywhere(1, 3), "the way back, and forth, needs no load"
        wait_until(lambda: client.answered[-1] == 1, LIMIT_S)

        where = ["--repository", str(repository.root), "--triton", cluster.layout.address("triton_grpc")]
        where += ["--certificates", str(Authority(cluster.layout.home).folder(CONTROLLER))]
        monkeypatch.setattr("sys.argv", ["releases", "rollback", *where, "--kafka", cluster.layout.address("kafka")])
        assert command.main() == 0
        assert (repository.live(), repository.fallback()) == (3, 1)
        wait_until(lambda: client.answered[-1] == 3, LIMIT_S)
    assert set(client.answered) == {1, 3}
    rows = {line.split()[0]: line for line in str(look(repository, [server])).splitlines()}
    assert "fallback, base, warm" in rows["1"] and "live, warm" in rows["3"] and "7 of 7" in rows["3"]
    changes = History(repository.root).changes()
    for time_seen, live in client.seen:
        if not any(change.time <= time_seen <= change.time + SLOW_DISK for change in changes):
            assert served(repository, time_seen)["live"] == live


def test_kafka_is_told_of_every_change_in_order(cluster: Cluster, repository: Repository) -> None:
    """The last command above published what was owed from before; on a busy machine, this does."""
    announce(repository, access(cluster.layout, CONTROLLER), limit_s=LIMIT_S)
    history = History(repository.root)
    changes = history.changes()
    assert changes[-1].what == ROLLED_BACK and history.owed() == []
    found = {dict(r.headers)[topics.HEADER_EVENT_ID].decode(): r for r in published(cluster) if r.key == b"perfusion"}
    assert list(found) == [change.event_id for change in changes]
    for change, record in zip(changes, found.values(), strict=True):
        assert record.value == message(change).SerializeToString(deterministic=True)
        assert dict(record.headers)[topics.HEADER_EVENT_TYPE] == b"perfusion.v1.ReleaseChanged"
    last = events_pb2.ReleaseChanged.FromString(record.value)
    assert (last.release, last.previous_release, last.fallback_release, last.trial_release) == (3, 1, 1, 0)


def published(cluster: Cluster) -> list[Any]:
    """All records of the topic of releases."""
    with closing(KafkaConsumer(**access(cluster.layout, NAME).config)) as consumer:
        places = [TopicPartition(topics.RELEASES, n) for n in consumer.partitions_for_topic(topics.RELEASES)]
        consumer.assign(places)
        consumer.seek_to_beginning()
        ends, found = consumer.end_offsets(places), []
        while any(consumer.position(place) < ends[place] for place in places):
            found += [record for records in consumer.poll(1000).values() for record in records]
        return found


def test_a_triton_is_asked_no_longer_than_said_before_a_way_back(repository: Repository, server: Server) -> None:
    live = repository.live() or 0
    assert server.prove_within(MODELS, live, LIMIT_S) == []
    with pytest.raises(ServerError, match="has not loaded version 99 of denoiser"):
        server.prove_within(MODELS, 99, LIMIT_S)
    states = server.states()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "states", lambda limit_s: states)
        assert server.prove_within(MODELS, live, 0.0) == list(MODELS), "ready, and busy for all that is known"


def refused_load(
    spoil: Callable[[Repository], object], cluster: Cluster, repository: Repository, controller: Controller
) -> Exception | None:
    """How release 4 is refused while models are called; None where Triton crashed.

    A load that fails can end Triton itself, an open fault of its own (triton-inference-server/server#8882).
    """
    stage(repository, 1, repository, 4)
    spoil(repository)
    refusal = None
    try:
        with calling(cluster):
            try:
                controller.load(4)
            except (ReleaseError, ValueError) as error:
                refusal = error
            assert cluster.process("triton").pid is not None
    except AssertionError:  # of a client that heard of it, too
        if cluster.process("triton").pid is not None:
            raise
        return None
    finally:
        shutil.rmtree(repository.release_dir(4), ignore_errors=True)
        cluster.up(["triton", "keeper", "kafka"])
        controller.prune(10)
    assert refusal is not None, "a release that cannot serve was loaded"
    return refusal


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        pytest.param(
            lambda repository: damaged(repository.model_dir("vae_encoder", 4) / "model.onnx"),
            "vae_encoder/4/model.onnx has changed: expected SHA-256 .*, found",
            id="one bit",
        ),
        pytest.param(
            lambda repository: (repository.model_dir("vae_encoder", 4) / "model.onnx").unlink(),
            "vae_encoder/4/model.onnx is missing",
            id="partial",
        ),
        pytest.param(
            lambda repository: broken(repository, "vae_encoder", 4),
            "asked to load vae_encoder, refuses: (?s:.*)all models are as they were",
            id="the seventh model cannot be loaded",
        ),
        pytest.param(
            lambda repository: shutil.rmtree(repository.release_dir(4)), "there is no release 4", id="no manifest"
        ),
    ],
)
def test_a_release_that_cannot_serve_is_refused_and_leaves_all_models_as_they_were(
    spoil: Callable[[Repository], object],
    told: str,
    cluster: Cluster,
    repository: Repository,
    controller: Controller,
    server: Server,
) -> None:
    for _ in range(3):
        before, live = loaded(server), repository.live()
        refusal = refused_load(spoil, cluster, repository, controller)
        if refusal is not None:
            break
    assert refusal is not None and re.search(told, str(refusal))
    assert (loaded(server), repository.live()) == (before, live)
    assert not any(repository.model_folders(4)), "what is no release is pruned"


def test_a_second_controller_is_refused_and_told_who_is_at_work(
    repository: Repository, controller: Controller, server: Server
) -> None:
    before = loaded(server)
    with repository.lock(CONTROL, "load 9"), pytest.raises(LockedError, match=rf"load 9 \(process {os.getpid()} on"):
        controller.load(1)
    assert loaded(server) == before


def test_a_load_that_says_no_versions_is_refused(server: Server, cluster: Cluster) -> None:
    """Somebody's own client may load a model by its config.pbtxt, which would decide what serves if it said so."""
    before = loaded(server)
    with (
        closing(client_of(cluster.layout)) as client,
        pytest.raises(InferenceServerException, match="denoiser"),
    ):
        client.load_model("denoiser", client_timeout=LIMIT_S)
    assert loaded(server) == before


@pytest.mark.parametrize("killed", [1, 99], ids=["one process", "all processes"])
def test_a_model_whose_process_died_is_not_serving_until_it_is_revived(
    killed: int, cluster: Cluster, repository: Repository, server: Server
) -> None:
    live, region = repository.live() or 0, cluster.layout.shared_memory
    config = server.config("denoiser")
    assert config is not None
    instances = sum(group.count for group in config.instance_group)
    processes = model_processes.processes(region)["denoiser", live]
    for pid in processes[:-instances]:
        os.kill(pid, signal.SIGKILL)  # left behind by Triton on a busy machine, for the keeper to end later
    for pid in processes[-instances:][:killed]:
        os.kill(pid, signal.SIGKILL)
    assert cluster.states()["triton"] == "not serving"
    wait_until(lambda: cluster.states()["triton"] == "serving", LIMIT_S)
    for _ in range(2 * instances):
        server.prove("denoiser", live, config)
    assert loaded(server) == everywhere(1, 3)
    wait_until(lambda: len(model_processes.processes(region)["denoiser", live]) == instances, LIMIT_S)
