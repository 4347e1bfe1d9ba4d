"""What each of the client's methods sends and gives, over a real connection."""

from fractions import Fraction

import pytest
from perfusion.client import PerFusion
from perfusion.v1 import generation_service_pb2 as pb
from perfusion.v1.feedback_service_pb2 import (
    Feedback,
    GetFeedbackResponse,
    ListFeedbackResponse,
    SubmitFeedbackResponse,
)
from perfusion.v1.group_pb2 import Group
from perfusion.v1.ranking_service_pb2 import ImageScore, RankResponse
from perfusion.v1.release_pb2 import ReleaseInfo
from perfusion.v1.user_embedding_service_pb2 import GetUserProfileResponse, PutUserProfileResponse
from perfusion.v1.user_pb2 import UserProfile

from tests.protos.running import serving


class Answering:
    """A method that gives its answers in turn and remembers the requests."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.requests = []

    def __call__(self, request, context):
        self.requests.append(request)
        return self.answers.pop(0)


def test_a_profile_of_plain_values_goes_out_and_comes_back():
    stored = []

    def put(request, context):
        stored.append(request)
        return PutUserProfileResponse()

    def get(request, context):
        return GetUserProfileResponse(profile=UserProfile(user_id="store-1", features=stored[0].features))

    said = {
        "style": "minimalist",
        "audience": ("teens", "adults"),
        "years_open": 4,
        "size": None,
        "share": Fraction(1, 2),
    }
    with serving(PutUserProfile=put, GetUserProfile=get) as address, PerFusion(address) as client:
        client.put_profile("store-1", said)
        read = client.get_profile("store-1")
    features = stored[0].features
    assert features["style"].string_value == "minimalist"
    assert features["audience"].string_list_value.values == ["teens", "adults"]
    assert features["years_open"].number_value == 4.0
    assert "size" not in features
    assert read == {"style": "minimalist", "audience": ["teens", "adults"], "years_open": 4.0, "share": 0.5}


@pytest.mark.parametrize("value", [True, b"bytes", ["teens", 3], {"a": "b"}, object()])
def test_a_value_of_no_kind_is_refused_with_its_name_before_anything_is_sent(value):
    with PerFusion("localhost:1") as client, pytest.raises(TypeError, match=r"features\[style\]"):
        client.put_profile("store-1", {"style": value})


def test_groups_are_listed_page_by_page_as_they_are_needed():
    pages = Answering(
        pb.ListGroupsResponse(groups=[Group(group_id="a"), Group(group_id="b")], next_page_token="more"),
        pb.ListGroupsResponse(next_page_token="still more"),
        pb.ListGroupsResponse(groups=[Group(group_id="c")]),
    )
    with serving(ListGroups=pages) as address, PerFusion(address) as client:
        groups = client.list_groups("store-1", page_size=2)
        assert next(groups).group_id == "a"
        assert len(pages.requests) == 1
        assert [group.group_id for group in groups] == ["b", "c"]
    assert [request.page_token for request in pages.requests] == ["", "more", "still more"]
    assert {request.page_size for request in pages.requests} == {2}


def test_a_group_is_read_in_the_view_asked_for():
    method = Answering(*[pb.GetGroupResponse(group=Group(group_id="g"))] * 2)
    with serving(GetGroup=method) as address, PerFusion(address) as client:
        client.get_group("g")
        client.get_group("g", pb.GROUP_VIEW_BASIC)
    assert [request.view for request in method.requests] == [pb.GROUP_VIEW_FULL, pb.GROUP_VIEW_BASIC]


def test_picks_name_their_group_and_merchant():
    method = Answering(SubmitFeedbackResponse(event_id="e"))
    with serving(SubmitFeedback=method) as address, PerFusion(address) as client:
        assert client.submit_feedback(Group(group_id="g", user_id="store-1"), ["i", "j"]).event_id == "e"
    [request] = method.requests
    assert (request.group_id, request.user_id, list(request.selected_image_ids)) == ("g", "store-1", ["i", "j"])


def test_picks_are_read_by_group_and_listed_page_by_page():
    get = Answering(GetFeedbackResponse(feedback=Feedback(event_id="e2")))
    pages = Answering(
        ListFeedbackResponse(feedback=[Feedback(event_id="e2")], next_page_token="more"),
        ListFeedbackResponse(feedback=[Feedback(event_id="e1", superseded=True)]),
    )
    with serving(GetFeedback=get, ListFeedback=pages) as address, PerFusion(address) as client:
        assert client.get_feedback(Group(group_id="g", user_id="store-1")).event_id == "e2"
        picks = client.list_feedback("store-1", group_id="g", show_superseded=True, page_size=1)
        assert [(pick.event_id, pick.superseded) for pick in picks] == [("e2", False), ("e1", True)]
    assert (get.requests[0].group_id, get.requests[0].user_id) == ("g", "store-1")
    assert [request.page_token for request in pages.requests] == ["", "more"]
    assert all((r.user_id, r.group_id, r.show_superseded) == ("store-1", "g", True) for r in pages.requests)


def test_phrases_scores_and_the_release_come_back_as_messages():
    suggest = Answering(
        pb.SuggestPhrasesResponse(
            suggestions=[pb.PhraseSuggestion(phrase="v-neck", kind="neckline")], unread_phrases=["red"]
        )
    )
    release = Answering(*[pb.GetReleaseInfoResponse(info=ReleaseInfo(release=3, image_size_px=64))] * 2)
    rank = Answering(RankResponse(scores=[ImageScore(score=1.5, rank=2), ImageScore(score=2.5, rank=1)]))
    with (
        serving(SuggestPhrases=suggest, GetReleaseInfo=release, Rank=rank) as address,
        PerFusion(address) as client,
    ):
        suggested = client.suggest_phrases("store-1", "dress", "v")
        assert [each.phrase for each in suggested.suggestions] == ["v-neck"] and suggested.unread_phrases == ["red"]
        assert client.release_info().image_size_px == 64
        assert client.release_info(3).release == 3
        assert [each.rank for each in client.rank("store-1", "dress", [b"png", b"jpeg"]).scores] == [2, 1]
    assert suggest.requests[0].prefix == "v"
    assert [request.HasField("release") for request in release.requests] == [False, True]
    assert list(rank.requests[0].images) == [b"png", b"jpeg"]


def test_each_service_may_have_an_address_of_its_own():
    generation = Answering(pb.GetGroupResponse(group=Group(group_id="g")))
    feedback = Answering(SubmitFeedbackResponse(event_id="e"))
    with (
        serving(GetGroup=generation) as first,
        serving(SubmitFeedback=feedback) as second,
        PerFusion(generation=first, feedback=second) as client,
    ):
        assert client.submit_feedback(client.get_group("g"), []).event_id == "e"
        with pytest.raises(ValueError, match="no address for ranking"):
            client.rank("store-1", "dress", [])


def test_a_client_without_any_address_is_refused():
    with pytest.raises(ValueError, match="at least one service"):
        PerFusion()


def test_a_group_of_large_pictures_comes_through():
    large = Group(candidates=[{"png": bytes(2**20)} for _ in range(16)])
    with serving(GetGroup=Answering(pb.GetGroupResponse(group=large))) as address, PerFusion(address) as client:
        assert client.get_group("g") == large


def test_calls_are_shared_out_among_all_addresses_of_a_name():
    asked = []

    def answering(name):
        return lambda request, context: asked.append(name) or pb.GetReleaseInfoResponse(info=ReleaseInfo(release=1))

    with serving(GetReleaseInfo=answering("one")) as one, serving(GetReleaseInfo=answering("two")) as two:
        name = f"ipv4:{one},{two}".replace("localhost", "127.0.0.1")  # as a name with two addresses
        with PerFusion(name) as client:
            for _ in range(20):
                client.release_info()
    assert min(asked.count("one"), asked.count("two")) >= 5
