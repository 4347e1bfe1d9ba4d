"""Parts that stop, die, start late or are told to stop: what clients hear, and that the rest recovers by itself."""

import io
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from perfusion.v1 import feedback_service_pb2, generation_service_pb2, ranking_service_pb2, user_embedding_service_pb2
from perfusion.v1.generation_service_pb2 import GetGroupRequest, ListGroupsRequest
from PIL import Image

from deploy.local import triton_server
from deploy.local.clients import Clients
from deploy.local.cluster import Cluster
from deploy.local.parts import PARTS, SERVICES, is_serving
from deploy.local.triton_server import client_of
from tests.integration.client import NOTHING, generate, is_retryable, kept, new_user, pick, request, wait_until

UNAVAILABLE_WITHIN_S = 12.0
NOTICED_WITHIN_S = 30.0  # a proof of a model lasts ten times its probes: seconds on a loaded machine
METHODS = {
    "user_embedding": user_embedding_service_pb2.DESCRIPTOR.services_by_name["UserEmbeddingService"],
    "ranking": ranking_service_pb2.DESCRIPTOR.services_by_name["RankingService"],
    "generation": generation_service_pb2.DESCRIPTOR.services_by_name["GenerationService"],
    "feedback": feedback_service_pb2.DESCRIPTOR.services_by_name["FeedbackService"],
}
RECOVERED_WITHIN_S = 40.0


@pytest.fixture
def user_id(clients: Clients, cluster: Cluster) -> Iterator[str]:
    """Each of these tests breaks something: the whole cluster must serve before it and is mended after it."""
    cluster.up()
    yield new_user(clients, cluster.layout)
    cluster.up()


def refusal(clients: Clients, user_id: str) -> tuple[grpc.RpcError, float]:
    """The error that a patient client gets, and after how long."""
    begin = time.monotonic()
    with pytest.raises(grpc.RpcError) as refused:
        generate(clients, request(user_id))
    return refused.value, time.monotonic() - begin


def unserved(cluster: Cluster) -> set[str]:
    """The methods of all services, by their own names, that health does not call SERVING."""
    return {
        method.name
        for part, service in METHODS.items()
        for method in service.methods
        if not is_serving(cluster.layout, part, f"{service.full_name}/{method.name}")
    }


def denoiser_processes(cluster: Cluster) -> list[int]:
    """Those that compute the denoiser of the release in service, one an instance."""
    ours = f"/denoiser/{cluster.layout.release()}/"
    children = subprocess.run(["pgrep", "-P", str(cluster.process("triton").pid)], capture_output=True, text=True)
    return [int(pid) for pid in children.stdout.split() if ours in Path(f"/proc/{pid}/cmdline").read_text()]


def denoiser_rows(cluster: Cluster) -> int:
    """Samples the denoiser has computed so far, over all callers."""
    with client_of(cluster.layout) as client:
        statistics = client.get_inference_statistics("denoiser", str(cluster.layout.release()))
    return int(sum(m.inference_count for m in statistics.model_stats))


def test_a_cancelled_round_stops_within_a_step_and_leaves_nothing(
    clients: Clients, cluster: Cluster, user_id: str
) -> None:
    rows = 16
    before = denoiser_rows(cluster)
    stream = clients.generation.Generate(request(user_id, num_candidates=rows, num_steps=100), timeout=60)
    steps_seen = 0
    for event in stream:
        if event.WhichOneof("event") == "progress":
            steps_seen = event.progress.step
        if steps_seen == 3:
            break
    stream.cancel()
    time.sleep(1.0)
    soon = denoiser_rows(cluster)
    time.sleep(1.0)
    later = denoiser_rows(cluster)
    health_probes = rows - 1  # a few single samples; a step of this round would be sixteen
    assert later - soon <= health_probes
    # The step in flight and the one that began while the cancellation was on its way.
    assert soon - before <= (steps_seen + 2) * rows + health_probes
    assert kept(clients, cluster.layout, user_id) == NOTHING


def test_killed_triton_makes_calls_fail_in_time_and_is_picked_up_again_by_rounds_that_had_begun(
    clients: Clients, cluster: Cluster, user_id: str
) -> None:
    painter = new_user(clients, cluster.layout)
    undisturbed = generate(clients, request(painter, num_steps=60)).group
    stream = clients.generation.Generate(request(painter, num_steps=60), timeout=180)
    begun = next(event for event in stream if event.WhichOneof("event") == "progress" and event.progress.step == 3)
    cluster.kill("triton")
    error, seconds = refusal(clients, user_id)
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert is_retryable(error)
    assert seconds < UNAVAILABLE_WITHIN_S
    for name in ("generation", "ranking", "user_embedding"):
        wait_until(lambda name=name: not is_serving(cluster.layout, name), NOTICED_WITHIN_S)
    computed = {"Generate", "SuggestPhrases", "Rank", "GetUserEmbedding", "BatchGetUserEmbeddings"}
    wait_until(lambda: unserved(cluster) == computed, NOTICED_WITHIN_S)
    cluster.up(["triton"])
    wait_until(lambda: all(is_serving(cluster.layout, name) for name in SERVICES), RECOVERED_WITHIN_S)
    assert kept(clients, cluster.layout, user_id) == NOTHING
    assert generate(clients, request(user_id)).group.candidates
    *steps, last = stream
    assert begun.progress.num_steps == 60 and len(steps) == 57
    painted = {candidate.seed: candidate.png for candidate in last.group.candidates}
    for candidate in undisturbed.candidates:
        np.testing.assert_allclose(pixels(painted[candidate.seed]), pixels(candidate.png), atol=2)


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), float)


@pytest.mark.parametrize("down", ["ranking", "triton"])
def test_groups_are_read_and_picks_are_taken_while_nothing_can_be_painted(
    clients: Clients, cluster: Cluster, user_id: str, down: str
) -> None:
    group = generate(clients, request(user_id)).group
    cluster.kill(down)
    wait_until(lambda: "Generate" in unserved(cluster), NOTICED_WITHIN_S)
    assert not unserved(cluster) & {"GetGroup", "ListGroups", "SubmitFeedback", "ListFeedback", "GetUserProfile"}
    assert clients.generation.GetGroup(GetGroupRequest(group_id=group.group_id), timeout=10).group == group
    [listed] = clients.generation.ListGroups(ListGroupsRequest(user_id=user_id), timeout=10).groups
    assert listed.group_id == group.group_id
    clients.feedback.SubmitFeedback(pick(clients, group), timeout=10)
    assert kept(clients, cluster.layout, user_id).feedback_events == 1


def test_model_processes_that_die_fail_no_round_and_health_says_what_is_served(
    clients: Clients, cluster: Cluster, user_id: str
) -> None:
    method = "perfusion.v1.GenerationService/Generate"
    log = cluster.process("generation").log_file
    cluster.stop("keeper")  # which would revive them in a second or two
    one, *others = denoiser_processes(cluster)
    os.kill(one, signal.SIGKILL)
    wait_until(lambda: "denoiser of release" in log.read_text(), NOTICED_WITHIN_S)
    assert generate(clients, request(user_id)).group.candidates  # steps that meet the dead process ask another
    assert is_serving(cluster.layout, "generation", method) and cluster.states()["triton"] == "not serving"
    for other in others:
        os.kill(other, signal.SIGKILL)
    wait_until(lambda: not is_serving(cluster.layout, "generation", method), NOTICED_WITHIN_S)
    assert is_serving(cluster.layout, "generation", "perfusion.v1.GenerationService/SuggestPhrases")
    with ThreadPoolExecutor() as pool:
        begun = pool.submit(generate, clients, request(user_id))
        cluster.up(["keeper", "triton"])
        assert begun.result().group.candidates, "it waits while they are revived"
    wait_until(lambda: is_serving(cluster.layout, "generation", method), RECOVERED_WITHIN_S)


def test_a_triton_that_has_loaded_nothing_yet_may_be_asked_again(
    clients: Clients, cluster: Cluster, user_id: str
) -> None:
    cluster.kill("triton")
    cluster.start(["triton"])
    wait_until(lambda: triton_server.is_live(cluster.layout), RECOVERED_WITHIN_S)
    error, seconds = refusal(clients, user_id)
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert is_retryable(error)
    assert seconds < UNAVAILABLE_WITHIN_S
    cluster.up(["triton"])
    wait_until(lambda: is_serving(cluster.layout, "generation"), RECOVERED_WITHIN_S)
    assert generate(clients, request(user_id)).group.candidates


def test_without_kafka_nobody_hears_ok(clients: Clients, cluster: Cluster, user_id: str) -> None:
    group = generate(clients, request(user_id)).group
    cluster.kill("kafka")
    with pytest.raises(grpc.RpcError) as refused:
        clients.feedback.SubmitFeedback(pick(clients, group), timeout=30)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    assert is_retryable(refused.value)
    asked = request(user_id)
    with pytest.raises(grpc.RpcError) as unheard:
        generate(clients, asked)
    assert unheard.value.code() == grpc.StatusCode.UNAVAILABLE
    for name in ("generation", "feedback"):
        wait_until(lambda name=name: not is_serving(cluster.layout, name), NOTICED_WITHIN_S)
    cluster.up()
    assert generate(clients, asked).group.candidates  # the same request may be tried again
    assert kept(clients, cluster.layout, user_id).groups == 2


@pytest.mark.parametrize("name", ["user_embedding", "ranking"])
def test_a_restarted_service_is_picked_up_again(clients: Clients, cluster: Cluster, user_id: str, name: str) -> None:
    cluster.kill(name)
    error, seconds = refusal(clients, user_id)
    assert error.code() == grpc.StatusCode.UNAVAILABLE
    assert seconds < UNAVAILABLE_WITHIN_S
    wait_until(lambda: not is_serving(cluster.layout, "generation"), NOTICED_WITHIN_S)
    cluster.up([name])
    wait_until(lambda: is_serving(cluster.layout, "generation"), RECOVERED_WITHIN_S)
    assert generate(clients, request(user_id)).group.candidates


def test_services_started_before_their_dependencies_wait_for_them(
    clients: Clients, cluster: Cluster, user_id: str
) -> None:
    cluster.down()
    cluster.start(reversed(SERVICES))
    said = {
        "ranking": "not serving: triton",
        "generation": "serving 3 of 5 methods, not Generate, SuggestPhrases: triton for painting",
    }
    for name, beginning in said.items():
        wait_until(lambda n=name, b=beginning: cluster.states()[n].startswith(b), RECOVERED_WITHIN_S)
    assert "stopped" not in {cluster.states()[name] for name in SERVICES}
    cluster.up()
    assert set(cluster.states().values()) == {"serving"}
    assert generate(clients, request(user_id)).group.candidates


def test_a_service_told_to_stop_finishes_the_round_in_flight(clients: Clients, cluster: Cluster, user_id: str) -> None:
    stream = clients.generation.Generate(request(user_id, num_candidates=4, num_steps=40), timeout=60)
    next(stream)  # accepted: the round is under way
    stopping = threading.Thread(target=cluster.stop, args=["generation"])
    stopping.start()
    last = [event.WhichOneof("event") for event in stream][-1]
    stopping.join()
    assert last == "group"
    assert cluster.process("generation").pid is None


def test_what_was_stored_outlives_a_restart_of_everything(clients: Clients, cluster: Cluster, user_id: str) -> None:
    asked = request(user_id)
    first = generate(clients, asked).group
    for part in PARTS:
        cluster.kill(part.name)
    cluster.up()
    assert generate(clients, asked).group == first
