"""A Triton that is slow, one that is not there, one that says what it lacks; a real one: tests/integration."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from contract.repository import Repository
from deploy.releases import server as server_module
from deploy.releases.controller import Controller
from deploy.releases.errors import LateError, NotLoadedError, ReleaseError, ServerError
from deploy.releases.server import Server, every_address
from tests.deploy.releases.parts import MODELS


@pytest.fixture
def ready(controller: Controller, repository: Repository) -> Repository:
    """A repository in which 2 is live and 1 the fallback."""
    controller.restore()
    controller.load(2)
    controller.promote(2)
    return repository


@pytest.fixture
def at() -> Iterator[Callable[[bool], Server]]:
    """Gives a Triton that takes connections and never answers, or one at whose address nobody listens."""
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))

        def made(listens: bool) -> Server:
            if listens:
                taken.listen()
            return Server(f"127.0.0.1:{taken.getsockname()[1]}")

        yield made


@pytest.fixture
def silent(at: Callable[[bool], Server], monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(server_module, "INDEX_S", 0.3)
    with closing(at(True)) as server:
        yield server


def test_no_answer_in_time_is_told_from_a_refusal(silent: Server) -> None:
    with pytest.raises(LateError, match="asked for its index, has not answered in time"):
        silent.states(0.2)


def test_a_triton_that_does_not_say_in_time_what_it_has_loaded_does_not_hold_up_a_rollback(
    silent: Server, ready: Repository
) -> None:
    lines: list[str] = []
    Controller(ready, [silent], lines.append).rollback()
    assert (ready.live(), ready.fallback()) == (1, 2)
    assert lines[0].startswith("warning: denoiser, text_encoder, vae_decoder of 127.0.0.1:")
    assert lines[0].endswith("did not answer in time; release 1 is taken to be loaded there")


def test_a_rollback_without_a_triton_is_refused_and_does_not_ask_for_a_load(
    at: Callable[[bool], Server], ready: Repository
) -> None:
    with closing(at(False)) as server, pytest.raises(ReleaseError, match=r"does it run there\?$"):
        Controller(ready, [server], print).rollback()
    assert ready.live() == 2


def test_a_load_is_asked_for_where_triton_says_that_a_version_is_not_loaded(
    silent: Server, ready: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(silent, "states", lambda limit_s: {model: {1: "UNLOADING", 2: "READY"} for model in MODELS})
    with pytest.raises(NotLoadedError, match="has not loaded version 1 of denoiser"):
        silent.prove_within(MODELS, 1, 0.0)
    assert silent.prove_within(MODELS, 2, 0.0) == list(MODELS)
    with pytest.raises(ReleaseError, match="version 1 of denoiser; load release 1 first: load 1$"):
        Controller(ready, [silent], print).rollback()
    assert ready.live() == 2


def test_no_load_is_asked_for_where_a_loaded_version_fails(
    silent: Server, ready: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(models: object, version: int, limit_s: float) -> list[str]:
        raise ServerError("version 1 of denoiser answers nothing for noise")

    monkeypatch.setattr(silent, "prove_within", fails)
    with pytest.raises(ServerError, match="answers nothing for noise$"):
        Controller(ready, [silent], print).rollback()


def test_a_name_stands_for_all_its_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {
        "triton": ["10.0.0.2", "10.0.0.1", "10.0.0.2"],
        "localhost": ["127.0.0.1"],
        "v6": ["fd00::1", "fd00::2"],
        "10.0.0.9": ["10.0.0.9"],
    }

    def getaddrinfo(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        if host not in known:
            raise socket.gaierror(-2, "Name or service not known")
        family = socket.AF_INET6 if ":" in known[host][0] else socket.AF_INET
        extra = [(socket.AF_INET6, 1, 6, "", ("fd00::9", port))] if host == "triton" else []
        return [(family, 1, 6, "", (address, port)) for address in known[host]] + extra

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert every_address(["triton:8001"]) == ["10.0.0.1:8001", "10.0.0.2:8001"]
    assert every_address(["v6:1"]) == ["[fd00::1]:1", "[fd00::2]:1"]
    assert every_address(["localhost:1", "10.0.0.9:2", "localhost:1"]) == ["localhost:1", "10.0.0.9:2"]
    with pytest.raises(ReleaseError, match="no Triton at nowhere:1"):
        every_address(["nowhere:1"])
