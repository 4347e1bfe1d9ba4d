"""The ranking service over gRPC.

It knows its messages; the runtime handles deadlines, traces and errors. It does not know the scores' use.
"""

from collections.abc import Sequence

import grpc
from perfusion.v1.ranking_service_pb2 import RankRequest
from perfusion.v1.ranking_service_pb2_grpc import RankingServiceStub
from perfusion.v1.user_pb2 import UserEmbedding

from services.generation.orders import Scores, User
from services.generation.ports import Ranker
from services.runtime.clients import call, check_serving
from services.runtime.errors import FailedPrecondition, InvalidArgument, Unavailable
from services.runtime.patience import asked_again

_NAME, _METHOD = "ranking service", "perfusion.v1.RankingService/Rank"
_BACK_WITHIN_S = 5.0  # after a restart; a ranking that is away for longer must not hold places of rounds


class GrpcRanker(Ranker):
    """The ranking service behind a channel."""

    def __init__(self, channel: grpc.aio.Channel, *, timeout_s: float) -> None:
        self._channel = channel
        self._stub = RankingServiceStub(channel)
        self._timeout_s = timeout_s

    async def rank(self, user_id: str, prompt: str, images: Sequence[bytes], release: int, user: User | None) -> Scores:
        known = None if user is None else _embedding(user_id, release, user)
        request = RankRequest(user_id=user_id, prompt=prompt, images=images, release=release, embedding=known)
        try:
            answer = await asked_again(
                lambda: call(self._stub.Rank, request, name=_NAME, timeout_s=self._timeout_s), None, 0.0, _BACK_WITHIN_S
            )
        except (FailedPrecondition, InvalidArgument) as error:  # our caller chose neither release nor pictures
            raise Unavailable(_NAME, f"refused the pictures of release {release}") from error
        if len(answer.scores) != len(images):
            raise Unavailable(_NAME, f"scored {len(answer.scores)} of {len(images)} pictures")
        return [(score.score, score.rank) for score in answer.scores]

    async def check(self) -> None:
        await check_serving(self._channel, _METHOD, name=_NAME, timeout_s=self._timeout_s)


def _embedding(user_id: str, release: int, user: User) -> UserEmbedding:
    """What ranking needs of a user's vectors."""
    return UserEmbedding(
        user_id=user_id,
        release=release,
        reward_text_user=user.reward_text.tolist(),
        reward_image_user=user.reward_image.tolist(),
    )
