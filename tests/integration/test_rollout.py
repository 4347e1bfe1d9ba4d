"""Two releases on the real Triton at once: mixed groups, the hold-back, and a trial that is unloaded under its rounds.

The one on trial is the live release again, under another number and with another noise schedule: it draws otherwise.
"""

import io
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

import grpc
import numpy as np
import pytest
from perfusion.v1.events_pb2 import GroupGenerated
from perfusion.v1.generation_service_pb2 import GenerateRequest, GetGroupRequest
from perfusion.v1.group_pb2 import ARM_HOLDBACK, ARM_LIVE, ARM_MIXED, Candidate, Group
from PIL import Image

from contract import topics
from contract.release import MANIFEST
from contract.repository import Repository
from contract.rollout import assign, read_rollout, rollout_file
from deploy.local.clients import Clients, read_events
from deploy.local.cluster import Cluster
from deploy.local.triton_server import server_of
from deploy.releases.controller import Controller
from deploy.releases.server import Server
from tests.integration.client import CALL_TIMEOUT_S, generate, new_user, request, wait_until
from tests.integration.test_round import SEED_TOLERANCE
from tests.repositories import replace_file, stage

CANDIDATES = 5


@dataclass(frozen=True)
class Trial:
    """Two loaded releases, and what decides between them."""

    live: int
    number: int
    repository: Repository
    server: Server
    controller: Controller

    def unload_one_model(self) -> None:
        """As nobody should while it is on trial; the last one of a round, so that a round may be in the middle."""
        self.server.load("vae_decoder", self.server.config("vae_decoder"), {self.live})


@pytest.fixture
def trial(cluster: Cluster) -> Iterator[Trial]:
    repository = Repository(cluster.layout.model_repository)
    live = repository.live()
    assert live is not None
    number = repository.numbers()[-1] + 1
    stage(repository, live, repository, number)
    manifest = repository.release_dir(number) / MANIFEST
    said = json.loads(manifest.read_text())
    said["noise_schedule"]["beta_end"] *= 0.5
    replace_file(manifest, json.dumps(said).encode())
    with closing(server_of(cluster.layout)) as server:
        controller = Controller(repository, [server], print, drain_s=0.0)
        try:
            controller.load(number)
            yield Trial(live, number, repository, server, controller)
        finally:
            rollout_file(repository.root).unlink(missing_ok=True)
            controller.unload(number)
            for folder in (repository.release_dir(number), *repository.model_folders(number)):
                shutil.rmtree(folder)


def by_seed(group: Group) -> list[Candidate]:
    return sorted(group.candidates, key=lambda candidate: candidate.seed)


def picture(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), np.int16)  # (H, W, 3)


class Merchant(threading.Thread):
    """Asks for one group after the other until it is told to stop."""

    def __init__(self, clients: Clients, user_id: str) -> None:
        super().__init__()
        self._clients, self._user_id = clients, user_id
        self._stopped = threading.Event()
        self.groups: list[Group] = []
        self.failures: list[str] = []

    def run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.groups.append(generate(self._clients, request(self._user_id)).group)
            except grpc.RpcError as failure:
                self.failures.append(str(failure))

    def stop(self) -> None:
        self._stopped.set()
        self.join()


def test_two_releases_draw_one_group_and_a_trial_that_goes_takes_no_request_along(
    cluster: Cluster, clients: Clients, trial: Trial
) -> None:
    user_id = new_user(clients, cluster.layout)
    live, number, controller = trial.live, trial.number, trial.controller

    def made(**changes: int) -> tuple[GenerateRequest, Group]:
        asked = request(user_id, num_candidates=CANDIDATES, **changes)
        return asked, generate(clients, asked).group

    controller.trial(number, 1.0)
    asked, mixed = made()
    drawn = assign(read_rollout(trial.repository.root), live, user_id, asked.request_id, CANDIDATES)
    assert [candidate.release for candidate in by_seed(mixed)] == list(drawn.drawn_by)
    assert (mixed.release, mixed.assignment.arm, mixed.assignment.propensity) == (live, ARM_MIXED, 1)
    assert mixed.assignment.trial_release == number
    assert clients.generation.GetGroup(GetGroupRequest(group_id=mixed.group_id), timeout=CALL_TIMEOUT_S).group == mixed
    [event] = read_events(cluster.layout, topics.GROUPS, GroupGenerated, user_id)
    assert event.message.assignment == mixed.assignment
    assert [c.release for c in event.message.candidates] == [c.release for c in mixed.candidates]

    controller.end_trial()
    controller.shares(holdback=1.0, base=number)
    _, held_back = made()
    assert (held_back.release, held_back.assignment.arm) == (number, ARM_HOLDBACK)
    controller.shares(holdback=0.0, base=0)
    _, alone = made()
    assert (alone.release, alone.assignment.arm) == (live, ARM_LIVE)
    whole = {number: by_seed(held_back), live: by_seed(alone)}
    for place, candidate in enumerate(by_seed(mixed)):
        for release, candidates in whole.items():
            difference = np.abs(picture(candidate.png) - picture(candidates[place].png)).max()
            assert (difference <= SEED_TOLERANCE) == (release == candidate.release)

    controller.trial(number, 1.0)
    merchant = Merchant(clients, user_id)
    merchant.start()
    try:
        wait_until(lambda: len(merchant.groups) > 1, CALL_TIMEOUT_S)
        trial.unload_one_model()
        already = len(merchant.groups)
        wait_until(lambda: len(merchant.groups) > already + 1, CALL_TIMEOUT_S)
    finally:
        merchant.stop()
    assert merchant.failures == []
    assert {group.assignment.arm for group in merchant.groups} == {ARM_MIXED, ARM_LIVE}
    for group in merchant.groups:
        releases = {candidate.release for candidate in group.candidates}
        assert releases == ({live, number} if group.assignment.arm == ARM_MIXED else {live})
    assert [group.assignment.arm for group in merchant.groups[-2:]] == [ARM_LIVE] * 2
