"""A leader publishes what it changes, and followers never say what they do not have."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from contract.repository import Repository
from contract.rollout import read_rollout
from deploy.local.layout import ROOT
from deploy.releases import agent
from deploy.releases.agent import Leader, Loader, Mirror, Readiness, repeat
from deploy.releases.controller import Controller
from deploy.releases.errors import ReleaseError
from deploy.releases.history import History
from deploy.releases.store import Numbered, Store, TakenError
from services.runtime.release import Releases
from tests.deploy.releases.parts import Table, everywhere, loaded


@pytest.fixture
def store(repository: Repository, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """All four releases are there, and nothing serves yet."""
    found = Store(str(tmp_path_factory.mktemp("store")))
    for number in repository.numbers():
        found.push(repository, number)
    return found


@pytest.fixture
def leader(repository: Repository, store: Store) -> Leader:
    """Of the repository in which 1 is live."""
    return Leader(Mirror(store, repository, print))


@pytest.fixture
def follower(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Mirror:
    (root := tmp_path_factory.mktemp("there")).joinpath("releases").mkdir()
    return Mirror(store, Repository(root), print)


def test_a_change_reaches_followers_whole(
    leader: Leader, follower: Mirror, controller: Controller, repository: Repository
) -> None:
    controller.load(3)
    controller.promote(3, "it is better")
    controller.load(4)
    controller.trial(4, 0.5)
    leader.look()
    follower.look()
    for read in (Repository.live, Repository.fallback, Repository.needed):
        assert read(follower.repository) == read(repository)
    assert read_rollout(follower.repository.root) == read_rollout(repository.root)
    assert History(follower.repository.root).changes() == History(repository.root).changes()
    controller.rollback()
    leader.look()
    follower.look()
    assert follower.repository.live() == 1 and follower.repository.fallback() == repository.fallback()


def test_a_fallback_that_is_gone_goes(leader: Leader, follower: Mirror, repository: Repository) -> None:
    repository.point(2, 1)
    leader.look()
    follower.look()
    repository.point(2, None)
    leader.look()
    follower.look()
    assert not (follower.repository.root / "releases" / "fallback").exists()


def test_nothing_is_published_that_did_not_change(leader: Leader, store: Store, repository: Repository) -> None:
    for _ in range(3):
        leader.look()
    assert store.state() is None or store.state().number == 1  # type: ignore[union-attr]
    repository.point(2, 1)
    leader.look()
    leader.look()
    assert store._numbered("states")[-1] <= 2


def test_a_follower_stays_with_what_it_has_while_a_release_cannot_be_fetched(
    leader: Leader, follower: Mirror, repository: Repository, store: Store
) -> None:
    follower.keep = 1
    repository.point(2, 1)
    leader.look()
    follower.look()
    assert follower.repository.live() == 2
    digest = repository.check(3).models["denoiser"].files["model.onnx"]
    store._files.pipe_file(f"{store._root}/objects/{digest}", b"rotten")
    repository.point(3, 2)
    leader.look()
    with pytest.raises(ReleaseError, match="damaged"):
        follower.look()
    assert follower.repository.live() == 2 and 3 not in follower.repository.numbers()
    repository.point(1, 2)  # the way back does not wait for it
    leader.look()
    follower.look()
    assert follower.repository.live() == 1


def test_the_newest_are_fetched_before_they_serve_and_old_ones_go_later(
    leader: Leader, follower: Mirror, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.point(1, None)
    leader.look()
    follower.look()
    assert follower.repository.numbers() == [1, 3, 4]
    repository.point(4, 3)
    leader.look()
    follower.look()
    assert follower.repository.numbers() == [1, 3, 4]  # a round may have begun on 1
    monkeypatch.setattr(agent, "GRACE_S", 0.0)
    time.sleep(0.01)
    follower.look()
    assert follower.repository.numbers() == [3, 4]


def test_a_leader_that_starts_again_goes_on_from_what_served(
    leader: Leader, repository: Repository, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> None:
    leader.look()
    repository.point(2, 1)
    leader.look()
    root = tmp_path_factory.mktemp("again")
    again = Leader(Mirror(store, Repository(root), print))
    again.look()
    assert again.mirror.repository.live() == 2
    before = store.state()
    again.look()
    assert store.state() == before


def test_of_two_leaders_one_ends(
    leader: Leader, repository: Repository, store: Store, tmp_path_factory: pytest.TempPathFactory
) -> None:
    repository.point(1, None)
    leader.look()
    repository.point(2, 1)
    leader.look()
    other = Leader(Mirror(store, Repository(tmp_path_factory.mktemp("other")), print))
    other.look()
    repository.point(3, 2)
    leader.look()
    with pytest.raises(TakenError, match="another leader"):
        repeat(other.look, print, times=1)


def test_kafka_is_told_after_the_store_has_it(leader: Leader, repository: Repository, store: Store) -> None:
    told: list[int] = []

    def announce() -> None:
        state = store.state()
        assert state is not None
        told.append(state.number)

    leader.announce = announce
    leader.look()
    for live in (2, 3):
        repository.point(live, 1)
        leader.look()
    assert told == list(range(1, len(told) + 1)) and len(told) >= 2


def test_what_serves_is_loaded_again_into_a_triton_that_started_anew(
    leader: Leader, follower: Mirror, repository: Repository
) -> None:
    triton = Table()
    loader = Loader(follower.repository, triton, print)
    loader.look()  # nothing serves yet
    assert not triton.loads
    repository.point(2, 1)
    leader.look()
    follower.look()
    loader.look()
    assert loaded(triton) == everywhere(1, 2)
    assert triton.loads[0][1] == {2}  # what serves comes first
    triton.held = {model: {} for model in triton.held}
    triton.refuses = [("denoiser", 1)]
    with pytest.raises(ReleaseError, match="release 1 cannot be loaded"):
        loader.look()
    assert loaded(triton) == everywhere(2)


def test_a_triton_is_ready_while_it_computes_what_requests_may_need(
    leader: Leader, follower: Mirror, controller: Controller, tmp_path: Path
) -> None:
    triton, file = Table(), tmp_path / "ready"
    loader = Loader(follower.repository, triton, print)
    readiness = Readiness(follower.repository, triton, file, print)

    def is_ready() -> bool:
        file.unlink(missing_ok=True)
        with suppress(ReleaseError):
            readiness.look()
        return file.exists()

    assert not is_ready()  # nothing serves yet
    controller.load(3)
    controller.trial(3, 0.5)
    leader.look()
    follower.look()
    assert not is_ready()
    loader.look()
    assert is_ready()
    triton.held["denoiser"].pop(3)  # on trial
    assert not is_ready()
    loader.look()
    triton.hangs = [("denoiser", 1)]  # too busy to say
    assert all(is_ready() for _ in range(2 * agent.PROVEN_EVERY))
    triton.hangs, triton.mute = [], [("denoiser", 1)]  # it has lost its GPU, say
    assert not all(is_ready() for _ in range(2 * agent.PROVEN_EVERY))


def test_a_triton_that_has_never_computed_is_not_ready(
    leader: Leader, follower: Mirror, repository: Repository, tmp_path: Path
) -> None:
    repository.point(2, None)
    leader.look()
    follower.look()
    triton, file = Table(), tmp_path / "ready"
    triton.hangs = [("denoiser", 2)]
    triton.held = {model: {2: "READY"} for model in triton.held}
    with pytest.raises(ReleaseError, match="has not computed"):
        Readiness(follower.repository, triton, file, print).look()
    assert not file.exists()


def test_a_service_has_the_texts_alone(leader: Leader, follower: Mirror, repository: Repository) -> None:
    follower.models = False
    repository.point(2, 1)
    leader.look()
    follower.look()
    assert Releases(follower.repository.root).current().number == 2
    assert not list(follower.repository.root.glob("*/*/model.onnx"))


def test_a_fault_in_one_work_ends_all() -> None:
    def fails() -> None:
        raise KeyError("a fault of ours")

    with pytest.raises(KeyError, match="ours"):
        agent.side_by_side([threading.Event().wait, fails])


def test_what_goes_wrong_is_told_once_and_tried_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    pauses: list[float] = []
    monkeypatch.setattr(agent.time, "sleep", pauses.append)
    fails = [False, *[True] * 6, False, True]

    def look() -> None:
        if fails[len(pauses)]:
            raise ReleaseError("the store does not answer")

    repeat(look, said.append, times=len(fails))
    assert said == ["warning: the store does not answer"] * 2  # once each time
    assert pauses == [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 2.0, 4.0]


def wait_for(what: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.1)


def run(*arguments: object) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "deploy.releases.agent", *map(str, arguments)]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": ".:protos/gen:protos/client"})


def test_the_commands_as_a_cluster_runs_them(repository: Repository, tmp_path: Path) -> None:
    url, there = tmp_path / "store", Repository(tmp_path / "there")
    assert run("push", 1, "--store", url, "--repository", repository.root).wait() == 0
    assert run("push", 9, "--store", url, "--repository", repository.root).wait() == 1
    assert run("fetch", "--store", url, "--repository", there.root).wait() == 0
    assert there.numbers() == [1]
    leading = run("lead", "--store", url, "--repository", repository.root)
    following = run("follow", "--store", url, "--repository", there.root)
    try:
        wait_for(lambda: (there.root / "releases" / "current").exists())
        assert there.live() == 1
        Store(str(url)).publish(Numbered(2, {"current": "1"}))
        assert leading.wait(60) == 1  # another leader
        following.terminate()
        assert following.wait(20) == 0  # by a handler: a container's first process has no default action
    finally:
        for process in (leading, following):
            process.kill()
            process.wait()
