"""The client: one method for each thing that a merchant's application does with the platform.

It knows the four services and builds their requests. What a field means and may be stands in the API's messages; the
services check it, not the client. It keeps nothing between calls but its channels.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, TypedDict, TypeVar

import grpc

from perfusion.client._attempts import Attempts, Backoff, UnaryMethod, call
from perfusion.client._channel import open_channel
from perfusion.client._deadlines import deadline_s
from perfusion.client._errors import PerFusionError
from perfusion.client._identity import Identity
from perfusion.client._imports import Import
from perfusion.client._round import Round
from perfusion.client._values import PlainValue, feature_values, plain_values
from perfusion.v1 import feedback_service_pb2 as feedback_pb
from perfusion.v1 import generation_service_pb2 as generation_pb
from perfusion.v1 import ranking_service_pb2 as ranking_pb
from perfusion.v1 import user_embedding_service_pb2 as users_pb
from perfusion.v1.feedback_service_pb2_grpc import FeedbackServiceStub
from perfusion.v1.generation_service_pb2_grpc import GenerationServiceStub
from perfusion.v1.group_pb2 import Group, Scheduler
from perfusion.v1.ranking_service_pb2_grpc import RankingServiceStub
from perfusion.v1.release_pb2 import ReleaseInfo
from perfusion.v1.user_embedding_service_pb2_grpc import UserEmbeddingServiceStub

if TYPE_CHECKING:
    from typing_extensions import Unpack  # in typing since Python 3.11

Request = TypeVar("Request")
Response = TypeVar("Response")
Stub = TypeVar("Stub")


class Settings(TypedDict, total=False):
    """What a round may be asked for; GenerateRequest says the meaning, and what is left out gets the default."""

    negative_prompt: str
    num_candidates: int
    num_steps: int
    guidance_scale: float
    seed: int
    reference_image: bytes
    strength: float
    adapter_scale: float
    preview_every_n_steps: int
    scheduler: Scheduler.ValueType
    refused_wishes: Iterable[str]
    variety: float


class PerFusion:
    """A client of the platform, safe to share between threads; closes its channels at the end of a `with`.

    `address` (host:port) stands for every service that gets no address of its own. `identity` is a folder with the
    client's certificate and token; without it, and without `credentials` of one's own, the client calls in clear text,
    which services take for development alone. `timeout_s` is the longest that one
    call may take, all of its attempts together; without it each method has its own time, 120 s for a round and 10 s to
    look something up. Each method takes another one for one call. With `wait_for_ready` a call waits for a service that
    is down instead of trying again and again; it then ends with DeadlineExceeded instead of Unavailable.
    """

    def __init__(
        self,
        address: str | None = None,
        *,
        user_embedding: str | None = None,
        generation: str | None = None,
        ranking: str | None = None,
        feedback: str | None = None,
        identity: Identity | str | os.PathLike[str] | None = None,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_s: float | None = None,
        wait_for_ready: bool = False,
        backoff: Backoff | None = None,
    ) -> None:
        self._addresses = {
            "user_embedding": user_embedding or address,
            "generation": generation or address,
            "ranking": ranking or address,
            "feedback": feedback or address,
        }
        known = {each for each in self._addresses.values() if each}
        if not known:
            raise ValueError("PerFusion needs the address of at least one service")
        if identity is not None and credentials is not None:
            raise ValueError("PerFusion takes an identity or credentials, not both")
        if identity is not None:
            credentials = (identity if isinstance(identity, Identity) else Identity(identity)).credentials()
        self._channels = {each: open_channel(each, credentials) for each in sorted(known)}
        self._timeout_s = timeout_s
        self._wait_for_ready = wait_for_ready
        self._backoff = backoff or Backoff()

    def __enter__(self) -> PerFusion:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the channels; calls in flight are cancelled."""
        for channel in self._channels.values():
            channel.close()

    def put_profile(self, user_id: str, features: Mapping[str, PlainValue], *, timeout_s: float | None = None) -> None:
        """Stores a profile whole: {"style": "minimalist", "audience": ["teens"], "years_open": 4.0}."""
        request = users_pb.PutUserProfileRequest(user_id=user_id, features=feature_values(features))
        self._call(self._users().PutUserProfile, request, timeout_s)

    def get_profile(self, user_id: str, *, timeout_s: float | None = None) -> dict[str, str | list[str] | float]:
        """The profile as stored, in plain values."""
        request = users_pb.GetUserProfileRequest(user_id=user_id)
        return plain_values(self._call(self._users().GetUserProfile, request, timeout_s).profile.features)

    def generate(
        self,
        user_id: str,
        prompt: str,
        *,
        request_id: str | None = None,
        timeout_s: float | None = None,
        **settings: Unpack[Settings],
    ) -> Round:
        """A round: iterate over its events, or ask for its group(). `request_id` continues an earlier round."""
        request_id = request_id or str(uuid.uuid4())
        request = generation_pb.GenerateRequest(request_id=request_id, user_id=user_id, prompt=prompt, **settings)
        method = self._generation().Generate

        def start(request: generation_pb.GenerateRequest, left_s: float) -> object:
            return method(request, timeout=left_s, wait_for_ready=self._wait_for_ready)

        return Round(start, request, lambda wait: self._attempts(request, timeout_s, wait))

    def get_group(
        self,
        group_id: str,
        view: generation_pb.GroupView.ValueType = generation_pb.GROUP_VIEW_FULL,
        *,
        timeout_s: float | None = None,
    ) -> Group:
        """A finished group, with its pictures unless `view` is GROUP_VIEW_BASIC."""
        request = generation_pb.GetGroupRequest(group_id=group_id, view=view)
        return self._call(self._generation().GetGroup, request, timeout_s).group

    def list_groups(self, user_id: str, *, page_size: int = 0, timeout_s: float | None = None) -> Iterator[Group]:
        """A merchant's groups, the last stored first, without pictures. Pages are fetched as they are needed."""
        request = generation_pb.ListGroupsRequest(user_id=user_id, page_size=page_size)
        while True:
            page = self._call(self._generation().ListGroups, request, timeout_s)
            yield from page.groups
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def suggest_phrases(
        self,
        user_id: str,
        prompt: str = "",
        prefix: str = "",
        *,
        max_suggestions: int = 0,
        timeout_s: float | None = None,
    ) -> generation_pb.SuggestPhrasesResponse:
        """Phrases to add to the prompt, best first, and those of the prompt that do not fit (`unread_phrases`)."""
        request = generation_pb.SuggestPhrasesRequest(
            user_id=user_id, prompt=prompt, prefix=prefix, max_suggestions=max_suggestions
        )
        return self._call(self._generation().SuggestPhrases, request, timeout_s)

    def release_info(self, release: int | None = None, *, timeout_s: float | None = None) -> ReleaseInfo:
        """Features, phrases, defaults and limits of a release; None is the one in service."""
        request = generation_pb.GetReleaseInfoRequest(release=release)
        return self._call(self._generation().GetReleaseInfo, request, timeout_s).info

    def rank(
        self,
        user_id: str,
        prompt: str,
        images: Iterable[bytes],
        *,
        release: int | None = None,
        timeout_s: float | None = None,
    ) -> ranking_pb.RankResponse:
        """Score and rank of each picture (PNG or JPEG bytes), in the order given; phrases that were not read."""
        request = ranking_pb.RankRequest(user_id=user_id, prompt=prompt, images=images, release=release)
        return self._call(RankingServiceStub(self._channel("ranking")).Rank, request, timeout_s)

    def submit_feedback(
        self,
        group: Group,
        selected_image_ids: Iterable[str],
        *,
        request_id: str | None = None,
        timeout_s: float | None = None,
    ) -> feedback_pb.SubmitFeedbackResponse:
        """Records which pictures of the group the merchant picked; none means that nothing pleased."""
        request = feedback_pb.SubmitFeedbackRequest(
            request_id=request_id or str(uuid.uuid4()),
            group_id=group.group_id,
            user_id=group.user_id,
            selected_image_ids=selected_image_ids,
        )
        return self._call(self._feedback().SubmitFeedback, request, timeout_s)

    def import_feedback(
        self, picks: Iterable[feedback_pb.SubmitFeedbackRequest], *, window: int = 1024, timeout_s: float | None = None
    ) -> Iterator[tuple[feedback_pb.SubmitFeedbackRequest, feedback_pb.SubmitFeedbackResponse | PerFusionError]]:
        """Records many picks, each with its own request_id: every pick with its response, or the error that remains.

        They are recorded in their order. At most `window` are without an answer; so many are read ahead. A pick that
        Kafka has not taken, and a stream that is cut, are tried again for `timeout_s` (30 s); a stream that does not
        come back raises its typed error, and the same picks may be imported again. It begins with the first `next`.
        """
        said = (each for each in (timeout_s, self._timeout_s) if each is not None)
        method = self._feedback().ImportFeedback

        def start(requests: Iterator[feedback_pb.ImportFeedbackRequest], limit_s: float) -> object:
            return method(requests, timeout=limit_s, wait_for_ready=self._wait_for_ready)

        limit_s = next(said, deadline_s(feedback_pb.SubmitFeedbackRequest()))
        return Import(start, picks, window=window, timeout_s=limit_s, backoff=self._backoff).outcomes()

    def get_feedback(self, group: Group, *, timeout_s: float | None = None) -> feedback_pb.Feedback:
        """The merchant's pick of the group that counts; raises NotFound while there is none."""
        request = feedback_pb.GetFeedbackRequest(group_id=group.group_id, user_id=group.user_id)
        return self._call(self._feedback().GetFeedback, request, timeout_s).feedback

    def list_feedback(
        self,
        user_id: str,
        *,
        group_id: str = "",
        show_superseded: bool = False,
        page_size: int = 0,
        timeout_s: float | None = None,
    ) -> Iterator[feedback_pb.Feedback]:
        """A merchant's picks, the last recorded first, of all groups or of one. Pages are fetched as needed."""
        request = feedback_pb.ListFeedbackRequest(
            user_id=user_id, group_id=group_id, show_superseded=show_superseded, page_size=page_size
        )
        while True:
            page = self._call(self._feedback().ListFeedback, request, timeout_s)
            yield from page.feedback
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def _users(self) -> UserEmbeddingServiceStub:
        return UserEmbeddingServiceStub(self._channel("user_embedding"))

    def _generation(self) -> GenerationServiceStub:
        return GenerationServiceStub(self._channel("generation"))

    def _feedback(self) -> FeedbackServiceStub:
        return FeedbackServiceStub(self._channel("feedback"))

    def _channel(self, service: str) -> grpc.Channel:
        address = self._addresses[service]
        if address is None:
            raise ValueError(f"PerFusion has no address for {service}")
        return self._channels[address]

    def _call(self, method: UnaryMethod[Request, Response], request: Request, timeout_s: float | None) -> Response:
        return call(method, request, self._attempts(request, timeout_s), wait=self._wait_for_ready)

    def _attempts(
        self, request: object, timeout_s: float | None, wait: Callable[[float], object] = time.sleep
    ) -> Attempts:
        said = (each for each in (timeout_s, self._timeout_s) if each is not None)
        return Attempts(next(said, deadline_s(request)), self._backoff, wait)
