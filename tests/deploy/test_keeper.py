"""When a model is revived, and how often; tests/integration kills real processes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from tritonclient.grpc import model_config_pb2

from contract.repository import CONTROL, Repository
from deploy.local import keeper, model_processes
from deploy.local.keeper import Keeper
from deploy.local.layout import Layout
from deploy.local.model_processes import Place
from deploy.releases.errors import LateError, ServerError
from deploy.releases.server import Server


class Reloading(Server):
    """A Triton that notes which configurations it loads."""

    def __init__(self) -> None:
        self.address, self.loads, self.fails = "triton:8001", list[str](), False

    def versions(self, model: str) -> set[int]:
        return {3, 4}

    def config(self, model: str) -> Any | None:
        return model_config_pb2.ModelConfig(name=model)

    def load(self, model: str, config: Any, versions: set[int]) -> None:
        assert versions == {3, 4}
        if self.fails:
            raise ServerError("it does not start")
        self.loads.append(config.parameters[keeper.GENERATION].string_value)

    def prove(self, model: str, version: int, config: Any) -> None:
        assert model == "denoiser"


class Machine:
    """Which processes are missing, and the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lacks: Mapping[Place, int] = {}
        self.left: set[int] = set()
        self.ended: list[int] = []
        self.now = 1000.0
        monkeypatch.setattr(model_processes, "dead", lambda server, region: self.lacks)
        monkeypatch.setattr(model_processes, "left_over", lambda server, region: self.left)
        monkeypatch.setattr(model_processes, "processes", lambda region: {})
        monkeypatch.setattr(keeper, "_kill", self.ended.append)
        monkeypatch.setattr(keeper.time, "monotonic", lambda: self.now)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


@pytest.fixture
def server() -> Reloading:
    return Reloading()


@pytest.fixture
def watching(tmp_path: Path, server: Reloading) -> Keeper:
    return Keeper(Layout("kept", 0, tmp_path), server)


def test_a_model_is_revived_when_two_looks_find_a_process_missing(
    machine: Machine, server: Reloading, watching: Keeper
) -> None:
    assert watching.look() == []
    machine.lacks = {("denoiser", 4): 1}
    assert watching.look() == [], "it may just be loaded"
    assert watching.look() == ["denoiser"]
    machine.lacks = {}
    assert watching.look() == []
    assert len(server.loads) == 1


def test_one_that_dies_again_and_again_is_revived_after_ever_longer_pauses_as_another_configuration(
    machine: Machine, server: Reloading, watching: Keeper
) -> None:
    machine.lacks = {("denoiser", 4): 2}
    for _ in range(600):
        watching.look()
        machine.now += 1.0
    assert 10 <= len(server.loads) <= 20
    assert len(set(server.loads)) == len(server.loads), "an equal one would load nothing"


def test_it_waits_for_a_controller_at_work_and_tries_again(
    machine: Machine, server: Reloading, watching: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contract.repository.LOCK_WAIT_S", 0.0)
    machine.lacks = {("denoiser", 4): 1}
    watching.look()
    with Repository(tmp_path).lock(CONTROL, "load 5"):
        assert watching.look() == []
    server.fails = True
    machine.now += 10.0
    assert watching.look() == []
    server.fails = False
    machine.now += 10.0
    assert watching.look() == ["denoiser"]


@pytest.mark.parametrize(
    ("broken", "loads"),
    [(2, [{2, 3, 4}, {3, 4}]), (3, [{2, 3, 4}, {3, 4}, {4}]), (4, [{2, 3, 4}, {3, 4}, {4}])],
    ids=["one that nothing needs", "the fallback", "the live one itself"],
)
def test_a_broken_version_does_not_keep_the_live_one_from_being_revived(
    broken: int,
    loads: list[set[int]],
    machine: Machine,
    server: Reloading,
    watching: Keeper,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Repository(tmp_path).point(4, 3)
    tried: list[set[int]] = []

    def load(model: str, config: Any, versions: set[int]) -> None:
        tried.append(versions)
        if broken in versions:
            raise ServerError("no graph")

    monkeypatch.setattr(server, "versions", lambda model: {2, 3, 4})
    monkeypatch.setattr(server, "load", load)
    machine.lacks = {("denoiser", 4): 1}
    watching.look()
    assert watching.look() == (["denoiser"] if broken != 4 else [])
    assert tried == loads


def test_a_version_that_is_only_late_is_not_left_out(
    machine: Machine, server: Reloading, watching: Keeper, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Repository(tmp_path).point(4, None)

    tried: list[set[int]] = []

    def late(model: str, config: Any, versions: set[int]) -> None:
        tried.append(versions)
        raise LateError("it has not answered in time")

    monkeypatch.setattr(server, "load", late)
    machine.lacks = {("denoiser", 4): 1}
    watching.look()
    assert watching.look() == []
    assert tried == [{3, 4}]


def test_a_process_that_triton_left_behind_is_ended_when_no_inference_can_be_in_it(
    machine: Machine, watching: Keeper, tmp_path: Path
) -> None:
    machine.left = {77}
    watching.look()
    machine.now += Layout.patience_s
    watching.look()
    assert machine.ended == []
    machine.now += 1.0
    with Repository(tmp_path).lock(CONTROL, "load 5"):
        watching.look()  # and the time begins anew
    machine.now += 1.0
    watching.look()
    assert machine.ended == []
    machine.now += Layout.patience_s + 1.0
    watching.look()
    assert machine.ended == [77]


@pytest.mark.parametrize(
    ("state", "living", "lacks", "left"),
    [
        ("READY", [10, 11], {}, set()),
        ("READY", [11], {("denoiser", 4): 1}, set()),
        ("READY", [], {("denoiser", 4): 2}, set()),
        ("READY", [10, 11, 12], {}, {10}),  # the oldest
        ("UNLOADING", [10, 11], {}, set()),
        ("LOADING", [10, 11, 12], {}, set()),
        ("", [10, 11], {}, {10, 11}),  # unloaded
    ],
)
def test_processes_are_counted_by_what_triton_holds(
    state: str,
    living: list[int],
    lacks: dict[Place, int],
    left: set[int],
    server: Reloading,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = model_config_pb2.ModelConfig(name="denoiser")
    config.instance_group.add(count=2)
    monkeypatch.setattr(server, "states", lambda: {"denoiser": {4: state} if state else {}})
    monkeypatch.setattr(server, "config", lambda model: config)
    monkeypatch.setattr(model_processes, "processes", lambda region: {("denoiser", 4): living} if living else {})
    assert model_processes.dead(server, "region") == lacks
    assert model_processes.left_over(server, "region") == left
