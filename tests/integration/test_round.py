"""A merchant's round on the real cluster: profile, group, pick, and what Kafka and the stores hold of it."""

import hashlib
import io
import re
from pathlib import Path

import grpc
import numpy as np
import pytest
from perfusion.v1.events_pb2 import FeedbackGiven, GroupGenerated
from perfusion.v1.generation_service_pb2 import (
    GenerateRequest,
    GetGroupRequest,
    GetReleaseInfoRequest,
    GroupView,
    ListGroupsRequest,
    SuggestPhrasesRequest,
)
from perfusion.v1.group_pb2 import Scheduler
from perfusion.v1.ranking_service_pb2 import RankRequest
from perfusion.v1.user_embedding_service_pb2 import (
    BatchGetUserEmbeddingsRequest,
    GetUserEmbeddingRequest,
    GetUserProfileRequest,
)
from PIL import Image

from contract import limits, topics
from contract.prompts import folded
from contract.release import read_release, release_dir
from deploy.benchmarks.phrase_suggestions import measure
from deploy.demo.playing import put_profile
from deploy.local.clients import Clients, read_events
from deploy.local.cluster import Cluster
from lab.generation.splits import Rounds, Size
from lab.market.merchants import case_study
from tests.integration.client import CALL_TIMEOUT_S, PROMPT, Kept, generate, kept, new_id, new_user, pick, request

SEED_TOLERANCE = 2  # grey levels of 255: batch sizes differ in the order of float additions, and rounding follows


@pytest.fixture
def user_id(clients: Clients, cluster: Cluster) -> str:
    return new_user(clients, cluster.layout)


def picture(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"), dtype=np.int16)  # (H, W, 3)


def test_the_stream_reports_every_step_and_ends_with_a_ranked_group(clients: Clients, user_id: str) -> None:
    done = generate(clients, request(user_id, num_candidates=5, num_steps=4, preview_every_n_steps=2))
    assert [(p.step, p.num_steps) for p in done.progress] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [len(p.previews) for p in done.progress][:2] == [0, 5]
    assert done.group.group_id == done.group_id
    assert done.group.release == done.release >= 1
    candidates = done.group.candidates
    assert [c.rank for c in candidates] == [1, 2, 3, 4, 5]
    scores = [c.score for c in candidates]
    assert scores == sorted(scores, reverse=True)
    assert np.isfinite(scores).all()
    assert {c.seed for c in candidates} == {11, 12, 13, 14, 15}


def test_previews_are_pictures(clients: Clients, user_id: str) -> None:
    done = generate(clients, request(user_id, preview_every_n_steps=2))
    assert picture(done.progress[1].previews[0]).shape == picture(done.group.candidates[0].png).shape


def test_a_stored_group_is_what_the_stream_gave(clients: Clients, user_id: str) -> None:
    group = generate(clients, request(user_id)).group
    again = clients.generation.GetGroup(GetGroupRequest(group_id=group.group_id), timeout=CALL_TIMEOUT_S).group
    assert again == group
    listed = clients.generation.ListGroups(ListGroupsRequest(user_id=user_id), timeout=CALL_TIMEOUT_S).groups
    for candidate in group.candidates:
        candidate.ClearField("png")
    assert list(listed) == [group]
    basic = GetGroupRequest(group_id=group.group_id, view=GroupView.GROUP_VIEW_BASIC)
    assert clients.generation.GetGroup(basic, timeout=CALL_TIMEOUT_S).group == group


def test_pictures_lie_in_the_object_store_under_their_content_hash(clients: Clients, user_id: str) -> None:
    for candidate in generate(clients, request(user_id)).group.candidates:
        content = Path(candidate.uri.removeprefix("file://")).read_bytes()
        assert content == candidate.png
        assert hashlib.sha256(content).hexdigest() in candidate.uri


def test_a_prompt_in_chinese_makes_the_pictures_of_its_twin(clients: Clients, cluster: Cluster, user_id: str) -> None:
    english = generate(clients, request(user_id, prompt="dress,v-neck", refused_wishes=["slim-fit"])).group
    chinese = generate(clients, request(user_id, prompt="连衣裙，V领", refused_wishes=["修身"])).group
    assert [(c.png, c.score, c.wishes) for c in chinese.candidates] == [
        (c.png, c.score, c.wishes) for c in english.candidates
    ]
    assert chinese.prompt == "连衣裙，V领" and not chinese.unread_phrases
    events = [event.message for event in read_events(cluster.layout, topics.GROUPS, GroupGenerated, user_id)]
    assert [event.canonical_prompt for event in events] == ["dress,v-neck"] * 2
    pngs = [candidate.png for candidate in english.candidates]
    ranked = [
        clients.ranking.Rank(RankRequest(user_id=user_id, prompt=prompt, images=pngs), timeout=CALL_TIMEOUT_S).scores
        for prompt in (english.prompt, chinese.prompt)
    ]
    assert ranked[0] == ranked[1]
    suggested = [
        clients.generation.SuggestPhrases(
            SuggestPhrasesRequest(user_id=user_id, prompt=prompt, prefix=prefix), timeout=CALL_TIMEOUT_S
        ).suggestions
        for prompt, prefix in ((english.prompt, "long s"), (chinese.prompt, "长袖"))
    ]
    assert [each.phrase for each in suggested[0]] == ["long sleeves"] and suggested[0] == suggested[1]


def test_groups_are_listed_newest_first_in_pages(clients: Clients, user_id: str) -> None:
    made = [generate(clients, request(user_id, num_candidates=1, num_steps=1)).group_id for _ in range(3)]
    first = clients.generation.ListGroups(ListGroupsRequest(user_id=user_id, page_size=2), timeout=CALL_TIMEOUT_S)
    token = first.next_page_token
    second = clients.generation.ListGroups(
        ListGroupsRequest(user_id=user_id, page_size=2, page_token=token), timeout=CALL_TIMEOUT_S
    )
    assert [g.group_id for g in (*first.groups, *second.groups)] == made[::-1]
    assert second.next_page_token == ""


def test_group_and_pick_can_be_read_back_from_kafka(clients: Clients, cluster: Cluster, user_id: str) -> None:
    group = generate(clients, request(user_id)).group
    feedback = pick(clients, group)
    answer = clients.feedback.SubmitFeedback(feedback, timeout=CALL_TIMEOUT_S)

    (generated,) = read_events(cluster.layout, topics.GROUPS, GroupGenerated, user_id)
    assert generated.message.group_id == group.group_id
    assert generated.message.release == group.release
    assert [c.image_id for c in generated.message.candidates] == [c.image_id for c in group.candidates]
    assert [c.wishes for c in generated.message.candidates] == [c.wishes for c in group.candidates]
    assert generated.message.user_features
    assert generated.headers["event-type"] == "perfusion.v1.GroupGenerated"
    assert generated.headers["content-type"] == "application/protobuf"

    (given,) = read_events(cluster.layout, topics.FEEDBACK, FeedbackGiven, user_id)
    assert given.headers["event-id"] == answer.event_id
    assert given.message.group_id == group.group_id
    assert list(given.message.selected_image_ids) == [group.candidates[0].image_id]
    assert list(given.message.unselected_image_ids) == [group.candidates[1].image_id]


def test_a_repeated_request_gives_the_same_group_and_one_event(
    clients: Clients, cluster: Cluster, user_id: str
) -> None:
    asked = request(user_id)
    first, second = generate(clients, asked), generate(clients, asked)
    assert second.group == first.group
    assert kept(clients, cluster.layout, user_id) == Kept(groups=1, generated_events=1, feedback_events=0)


def test_a_request_id_with_another_payload_is_refused(clients: Clients, cluster: Cluster, user_id: str) -> None:
    asked = request(user_id)
    generate(clients, asked)
    with pytest.raises(grpc.RpcError) as refused:
        generate(clients, request(user_id, request_id=asked.request_id, prompt="coat"))
    assert refused.value.code() == grpc.StatusCode.ALREADY_EXISTS
    assert kept(clients, cluster.layout, user_id).groups == 1


def test_a_repeated_pick_is_recorded_once(clients: Clients, cluster: Cluster, user_id: str) -> None:
    feedback = pick(clients, generate(clients, request(user_id)).group)
    first = clients.feedback.SubmitFeedback(feedback, timeout=CALL_TIMEOUT_S)
    second = clients.feedback.SubmitFeedback(feedback, timeout=CALL_TIMEOUT_S)
    assert second == first
    ids = {r.headers["event-id"] for r in read_events(cluster.layout, topics.FEEDBACK, FeedbackGiven, user_id)}
    assert ids == {first.event_id}


def test_a_candidate_is_reproduced_by_its_seed_alone(clients: Clients, user_id: str) -> None:
    group = generate(clients, request(user_id, num_candidates=5, num_steps=6)).group
    for candidate in group.candidates:
        alone = generate(clients, request(user_id, num_candidates=1, num_steps=6, seed=candidate.seed)).group
        difference = np.abs(picture(alone.candidates[0].png) - picture(candidate.png)).max()
        assert difference <= SEED_TOLERANCE
        assert alone.candidates[0].score == pytest.approx(candidate.score, abs=0.05)
        assert list(alone.candidates[0].wishes) == list(candidate.wishes)


def test_different_seeds_give_different_pictures(clients: Clients, user_id: str) -> None:
    one, other = generate(clients, request(user_id, num_steps=6)).group.candidates
    assert np.abs(picture(one.png) - picture(other.png)).max() > SEED_TOLERANCE


@pytest.mark.parametrize(
    "scheduler",
    [Scheduler.SCHEDULER_DDIM, Scheduler.SCHEDULER_DPMSOLVER_PLUS_PLUS_2M, Scheduler.SCHEDULER_EULER],
)
def test_every_sampler_makes_a_group(clients: Clients, user_id: str, scheduler: Scheduler) -> None:
    group = generate(clients, request(user_id, scheduler=scheduler)).group
    assert group.settings.scheduler == scheduler
    assert picture(group.candidates[0].png).std() > 0


def test_a_faint_departure_stays_near_the_reference_image(clients: Clients, user_id: str) -> None:
    reference = generate(clients, request(user_id, num_candidates=1, num_steps=10)).group.candidates[0].png
    far, near = (
        generate(
            clients,
            request(user_id, num_candidates=1, num_steps=10, seed=5, reference_image=reference, strength=strength),
        )
        for strength in (1.0, 0.1)
    )
    assert len(near.progress) < len(far.progress)
    distances = [np.abs(picture(r.group.candidates[0].png) - picture(reference)).mean() for r in (near, far)]
    assert distances[0] < distances[1]


def test_ranking_scores_pictures_as_generation_did(clients: Clients, user_id: str) -> None:
    candidates = generate(clients, request(user_id, num_candidates=3)).group.candidates
    ranked = clients.ranking.Rank(
        RankRequest(user_id=user_id, prompt=PROMPT, images=[c.png for c in reversed(candidates)]),
        timeout=CALL_TIMEOUT_S,
    )
    assert [s.score for s in ranked.scores][::-1] == pytest.approx([c.score for c in candidates], abs=0.05)
    assert sorted(s.rank for s in ranked.scores) == [1, 2, 3]


def test_profile_and_embeddings_are_read_back(clients: Clients, cluster: Cluster, user_id: str) -> None:
    profile = clients.users.GetUserProfile(GetUserProfileRequest(user_id=user_id), timeout=CALL_TIMEOUT_S).profile
    assert profile.features
    one = clients.users.GetUserEmbedding(GetUserEmbeddingRequest(user_id=user_id), timeout=CALL_TIMEOUT_S).embedding
    assert one.release == cluster.layout.release()
    many = clients.users.BatchGetUserEmbeddings(
        BatchGetUserEmbeddingsRequest(user_ids=[user_id, user_id]), timeout=CALL_TIMEOUT_S
    ).embeddings
    release = read_release(release_dir(cluster.layout.model_repository, one.release))
    assert len(one.favours) == len(release.vocabulary.phrases) and list(one.unknown_features) == []
    assert len(one.generator_user) == release.sizes.generator_user_width
    for embedding in many:
        np.testing.assert_allclose(embedding.generator_user, one.generator_user, atol=1e-5)


def test_wishes_are_phrases_that_the_prompt_leaves_open_and_can_be_refused(clients: Clients, cluster: Cluster) -> None:
    luxury, prompt = case_study()[1], "dress,v-neck"
    put_profile(clients, luxury)
    vocabulary = read_release(release_dir(cluster.layout.model_repository, cluster.layout.release())).vocabulary
    group = generate(clients, request(luxury.user_id, prompt=prompt, num_candidates=5)).group
    for candidate in group.candidates:
        kinds = [vocabulary.kind_of[folded(wish)] for wish in candidate.wishes]
        assert kinds and len(set(kinds)) == len(kinds)
        assert not set(kinds) & set(vocabulary.asked(prompt))
    struck = group.candidates[0].wishes[0]
    without = generate(clients, request(luxury.user_id, prompt=prompt, refused_wishes=[struck])).group
    assert all(struck not in candidate.wishes for candidate in without.candidates)
    assert list(without.settings.refused_wishes) == [struck]


def test_without_personalisation_nothing_is_wished(clients: Clients, user_id: str) -> None:
    group = generate(clients, request(user_id, adapter_scale=0)).group
    assert not any(candidate.wishes for candidate in group.candidates)


def test_the_release_says_what_a_request_gets(clients: Clients, cluster: Cluster, user_id: str) -> None:
    info = clients.generation.GetReleaseInfo(GetReleaseInfoRequest(), timeout=CALL_TIMEOUT_S).info
    release = read_release(release_dir(cluster.layout.model_repository, cluster.layout.release()))
    assert info.release == release.number
    assert [(kind.kind, phrase) for kind in info.phrase_kinds for phrase in kind.phrases] == release.vocabulary.phrases
    assert len(info.schedulers) == len(limits.SAMPLERS)
    bare = GenerateRequest(request_id=new_id(), user_id=user_id, prompt="dress", num_candidates=1)
    group = generate(clients, bare).group
    assert group.settings.num_steps == info.defaults.num_steps
    assert group.settings.scheduler == info.defaults.scheduler
    assert picture(group.candidates[0].png).shape == (info.image_size_px, info.image_size_px, 3)


def test_suggested_phrases_begin_with_what_was_typed(clients: Clients, user_id: str) -> None:
    answer = clients.generation.SuggestPhrases(
        SuggestPhrasesRequest(user_id=user_id, prompt="dress", prefix="s"), timeout=CALL_TIMEOUT_S
    )
    assert answer.suggestions
    assert all(any(word.startswith("s") for word in re.split(r"[\s-]", s.phrase.lower())) for s in answer.suggestions)
    scores = [s.score for s in answer.suggestions]
    assert scores == sorted(scores, reverse=True)


def test_suggested_phrases_are_what_merchants_truly_like(clients: Clients) -> None:
    rounds = Rounds.of("validation", Size(merchants=10, prompts=3))
    found = measure(clients, rounds, lambda: None)
    assert found["agreement"]["mean"] > 0.35 and found["agreement"]["low"] > 0.2
    assert found["top"]["low"] > 0.5  # at random 0
    assert found["out_of_place"]["mean"] == 0.0


def test_an_unknown_group_is_not_found(clients: Clients) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        clients.generation.GetGroup(GetGroupRequest(group_id=new_id()), timeout=CALL_TIMEOUT_S)
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND
