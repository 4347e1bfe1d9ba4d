"""A merchant's picks move their own next wishes, within seconds, through real Kafka; nobody else's."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from perfusion.v1.events_pb2 import GroupGenerated
from perfusion.v1.group_pb2 import Group
from perfusion.v1.user_embedding_service_pb2 import GetUserEmbeddingRequest
from perfusion.v1.user_pb2 import UserEmbedding

from contract import topics
from contract.history import HISTORY, Population
from contract.release import read_release, release_dir
from contract.vocabulary import Vocabulary
from deploy.local.clients import Clients, connect, read_events
from deploy.local.cluster import Cluster
from tests.integration.client import CALL_TIMEOUT_S, generate, is_retryable, new_user, pick, request, wait_until

FOLLOWED_WITHIN_S = 5.0
PROMPT = "dress,v-neck"
OTHERS, TIMED = 50, 100


def varied(vocabulary: Vocabulary) -> Population:
    """Merchants who vary much, alike in all phrases of a kind."""
    centred = np.eye(len(vocabulary.phrases))
    for start, size in zip(np.cumsum([0, *vocabulary.sizes[:-1]]), vocabulary.sizes, strict=True):
        centred[start : start + size, start : start + size] -= 1 / size
    return Population(np.zeros(len(centred)), 4 * centred, 2 * centred)


@pytest.fixture(scope="module")
def learning(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster on a release that says how merchants vary, whether the exported one does or not."""
    layout = cluster.layout
    directory = release_dir(layout.model_repository, layout.release())
    own: Path = directory / HISTORY
    before = own.read_bytes() if own.exists() else None
    text = varied(read_release(directory).vocabulary).to_text()
    own.unlink(missing_ok=True)  # not written into: it may be the project's own file
    own.write_text(text)
    try:
        restarted(cluster)
        yield cluster
    finally:
        own.unlink()
        if before is not None:
            own.write_bytes(before)
        restarted(cluster)


def restarted(cluster: Cluster) -> None:
    """Starts the service again and waits until the others have found it."""
    cluster.restart("user_embedding")
    wait_until(lambda: draws(cluster), 60)


def draws(cluster: Cluster) -> bool:
    with connect(cluster.layout) as clients:
        try:
            generate(clients, request(new_user(clients, cluster.layout)))
        except grpc.RpcError as error:
            if is_retryable(error):
                return False
            raise
    return True


def embedding(clients: Clients, user_id: str) -> UserEmbedding:
    asked = GetUserEmbeddingRequest(user_id=user_id)
    return clients.users.GetUserEmbedding(asked, timeout=CALL_TIMEOUT_S).embedding


def telling_group(clients: Clients, user_id: str) -> Group:
    """A group whose candidates do not all have the same wishes."""
    for seed in range(10):
        asked = request(user_id, prompt=PROMPT, num_candidates=3, seed=1000 * seed, variety=1.0)
        group = generate(clients, asked).group
        if len({tuple(sorted(candidate.wishes)) for candidate in group.candidates}) > 1:
            return group
    raise AssertionError("ten groups of the same wishes with a variety of 1")


def test_a_pick_moves_the_merchants_own_next_group(learning: Cluster, clients: Clients) -> None:
    ada, bea = (new_user(clients, learning.layout) for _ in range(2))
    of_ada, of_bea = embedding(clients, ada), embedding(clients, bea)
    assert list(of_ada.favours) == list(of_bea.favours)  # the same profile
    group = telling_group(clients, ada)
    liked = group.candidates[-1]
    clients.feedback.SubmitFeedback(pick(clients, group, selected_image_ids=[liked.image_id]), timeout=CALL_TIMEOUT_S)
    began = time.monotonic()
    wait_until(lambda: embedding(clients, ada).history.groups == 1, FOLLOWED_WITHIN_S)
    print(f"favours followed the pick after {time.monotonic() - began:.2f} s")
    moved = embedding(clients, ada)
    vocabulary = read_release(release_dir(learning.layout.model_repository, moved.release)).vocabulary
    gained = np.array(moved.favours) - np.array(of_ada.favours)
    own = {vocabulary.places[phrase] for phrase in liked.wishes}
    of_others = [{vocabulary.places[phrase] for phrase in other.wishes} for other in group.candidates[:-1]]
    assert all(gained[list(own)].sum() > gained[list(theirs)].sum() for theirs in of_others if theirs != own)
    assert list(moved.generator_user) == list(of_ada.generator_user)
    assert embedding(clients, bea) == of_bea

    generate(clients, request(ada, prompt=PROMPT))
    told = [record.message for record in read_events(learning.layout, topics.GROUPS, GroupGenerated, ada)]
    assert told[0].history.groups == 0 and told[-1].history == moved.history and moved.history.sequence > 0


def test_a_corrected_pick_counts_in_the_place_of_the_first(learning: Cluster, clients: Clients) -> None:
    user_id = new_user(clients, learning.layout)
    group = telling_group(clients, user_id)
    found = []
    for candidate in (group.candidates[0], group.candidates[-1], group.candidates[0]):
        before = embedding(clients, user_id).history.sequence
        request_of = pick(clients, group, selected_image_ids=[candidate.image_id])
        clients.feedback.SubmitFeedback(request_of, timeout=CALL_TIMEOUT_S)
        wait_until(lambda before=before: embedding(clients, user_id).history.sequence > before, FOLLOWED_WITHIN_S)
        found.append(embedding(clients, user_id))
    assert [each.history.groups for each in found] == [1, 1, 1]
    assert list(found[0].favours) == list(found[2].favours) != list(found[1].favours)


def test_what_was_picked_while_the_service_was_down_counts_when_it_is_back(learning: Cluster, clients: Clients) -> None:
    user_id = new_user(clients, learning.layout)
    group = telling_group(clients, user_id)
    learning.stop("user_embedding")
    clients.feedback.SubmitFeedback(pick(clients, group), timeout=CALL_TIMEOUT_S)
    restarted(learning)
    wait_until(lambda: embedding(clients, user_id).history.groups == 1, 2 * FOLLOWED_WITHIN_S)


@pytest.mark.slow  # a minute: fifty-one groups are drawn first
def test_while_fifty_others_pick_favours_follow_within_seconds(learning: Cluster, clients: Clients) -> None:
    """Each of fifty picks again and again in a group of their own; one merchant's picks are timed meanwhile."""
    users = [new_user(clients, learning.layout) for _ in range(OTHERS + 1)]
    own, *others = [telling_group(clients, user_id) for user_id in users]
    stopped, counts = threading.Event(), [0] * OTHERS

    def go_on(at: int) -> None:
        while not stopped.is_set():
            image_id = others[at].candidates[counts[at] % 2].image_id
            picked = pick(clients, others[at], selected_image_ids=[image_id])
            clients.feedback.SubmitFeedback(picked, timeout=CALL_TIMEOUT_S)
            counts[at] += 1
            stopped.wait(0.5)

    took_s = list[float]()
    with ThreadPoolExecutor(OTHERS) as pool:
        going_on = [pool.submit(go_on, at) for at in range(OTHERS)]
        try:
            for n in range(TIMED):
                before = embedding(clients, own.user_id).history.sequence
                picked = pick(clients, own, selected_image_ids=[own.candidates[n % 2].image_id])
                clients.feedback.SubmitFeedback(picked, timeout=CALL_TIMEOUT_S)
                answered = time.monotonic()
                while embedding(clients, own.user_id).history.sequence <= before:
                    assert time.monotonic() - answered < 60
                    time.sleep(0.02)
                took_s.append(time.monotonic() - answered)
        finally:
            stopped.set()
        for each in going_on:
            each.result()
    found = np.percentile(took_s, [50, 99, 100])
    print(f"{TIMED} picks beside {sum(counts)} of {OTHERS} others: median, 99th, worst", found.round(2), "s")
    assert min(counts) >= 2 and found[1] < FOLLOWED_WITHIN_S
