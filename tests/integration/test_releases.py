"""Releases beside a running Triton: staged, loaded, promoted, rolled back, refused, while a client calls all the time.

On a Triton of its own with the project's newest export, three times under three numbers: what differs between releases
is not the matter here.
"""

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from contract.release import MANIFEST
from contract.repository import CONTROL, LockedError, Repository, sha256
from deploy.local import model_processes, triton_server
from deploy.local.cluster import Cluster
from deploy.local.layout import Layout
from deploy.releases.controller import Controller
from deploy.releases.errors import ReleaseError, ServerError
from deploy.releases.server import Server
from deploy.releases.status import table
from tests.integration.client import wait_until
from tests.ports import free_offset
from tests.repositories import copy_of, link, replace_file

MODELS = (
    "denoiser", "reward_image", "reward_text", "text_encoder", "user_encoder", "vae_decoder", "vae_encoder",
)  # fmt: skip
LIMIT_S = 120.0  # of a busy machine


class Client(threading.Thread):
    """Calls every model of the live release, one after the other, until it is told to stop."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self._layout, self._repository = layout, Repository(layout.model_repository)
        self._stopped = threading.Event()
        self.answered: list[int] = []  # the release of each call
        self.failures: list[str] = []

    def run(self) -> None:
        with closing(Server(self._layout.address("triton_grpc"))) as server:
            configs = {model: triton_server.configuration(self._repository.root, model) for model in MODELS}
            while not self._stopped.is_set():
                live = self._repository.live() or 0
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
def calling(cluster: Cluster) -> Iterator[Client]:
    """A client that must hear from nothing: every call of its is answered."""
    client = Client(cluster.layout)
    client.start()
    try:
        wait_until(lambda: bool(client.answered), LIMIT_S)
        yield client
        already = len(client.answered)
        wait_until(lambda: len(client.answered) > already + len(MODELS), LIMIT_S)
    finally:
        client.stop()
    assert client.failures == []


@pytest.fixture(scope="module")
def cluster(exported: Repository, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Triton and its keeper, serving release 1 of a repository whose path has a blank."""
    root = tmp_path_factory.mktemp("releases") / "model repository"
    repository = copy_of(exported, root, [])
    stage(exported, exported.numbers()[-1], repository, 1)
    running = Cluster(Layout("releases", free_offset(), root), say=print)
    shutil.rmtree(running.layout.home, ignore_errors=True)
    try:
        running.up(["triton", "keeper"])
        assert repository.live() == 1, "the first release of a repository disturbs nothing"
        yield running
    finally:
        running.down()


@pytest.fixture
def repository(cluster: Cluster) -> Repository:
    return Repository(cluster.layout.model_repository)


@pytest.fixture
def server(cluster: Cluster) -> Iterator[Server]:
    with closing(Server(cluster.layout.address("triton_grpc"))) as opened:
        yield opened


@pytest.fixture
def controller(repository: Repository, server: Server) -> Controller:
    return Controller(repository, [server], print)


def stage(source: Repository, number: int, repository: Repository, as_number: int) -> None:
    """The same release under another number, as an export would have written it."""
    for model in MODELS:
        link(source.model_dir(model, number), repository.model_dir(model, as_number))
    link(source.release_dir(number), repository.release_dir(as_number))
    said = json.loads((source.release_dir(number) / MANIFEST).read_text())
    replace_file(repository.release_dir(as_number) / MANIFEST, json.dumps(said | {"release": as_number}).encode())


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


def test_a_release_is_staged_loaded_promoted_and_rolled_back_under_a_client_that_hears_nothing(
    cluster: Cluster, repository: Repository, controller: Controller, server: Server
) -> None:
    with calling(cluster) as client:
        stage(repository, 1, repository, 2)
        cluster.up(["triton", "keeper"])  # as `make up` would beside a running platform
        assert (repository.live(), loaded(server)) == (1, everywhere(1))
        with pytest.raises(ReleaseError, match="has not loaded version 2 of denoiser; load release 2 first"):
            controller.promote(2)

        controller.load(2)
        assert (repository.live(), loaded(server)) == (1, everywhere(1, 2))
        controller.promote(2)
        assert (repository.live(), repository.fallback()) == (2, 1)
        wait_until(lambda: 2 in client.answered[-3:], LIMIT_S)

        controller.rollback()
        assert (repository.live(), repository.fallback()) == (1, 2)
        assert loaded(server) == everywhere(1, 2), "the way back, and forth, needs no load"
        controller.promote(2)
    assert set(client.answered) == {1, 2}
    rows = {line.split()[0]: line for line in table(repository, [server]).splitlines()}
    assert "fallback, warm" in rows["1"] and "live, warm" in rows["2"] and "7 of 7" in rows["2"]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        pytest.param(
            lambda repository: damaged(repository.model_dir("vae_encoder", 3) / "model.onnx"),
            "vae_encoder/3/model.onnx has changed: expected SHA-256 .*, found",
            id="one bit",
        ),
        pytest.param(
            lambda repository: (repository.model_dir("vae_encoder", 3) / "model.onnx").unlink(),
            "vae_encoder/3/model.onnx is missing",
            id="partial",
        ),
        pytest.param(
            lambda repository: broken(repository, "vae_encoder", 3),
            "asked to load vae_encoder, refuses: (?s:.*)all models are as they were",
            id="the seventh model cannot be loaded",
        ),
        pytest.param(
            lambda repository: shutil.rmtree(repository.release_dir(3)), "there is no release 3", id="no manifest"
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
    before, live = loaded(server), repository.live()
    stage(repository, 1, repository, 3)
    spoil(repository)
    try:
        with calling(cluster), pytest.raises((ReleaseError, ValueError), match=told):
            controller.load(3)
        assert (loaded(server), repository.live()) == (before, live)
    finally:
        shutil.rmtree(repository.release_dir(3), ignore_errors=True)
        controller.prune(10)
    assert not any(repository.model_folders(3)), "what is no release is pruned"


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
        closing(triton.InferenceServerClient(cluster.layout.address("triton_grpc"))) as client,
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
    assert loaded(server) == everywhere(1, 2)
    wait_until(lambda: len(model_processes.processes(region)["denoiser", live]) == instances, LIMIT_S)
