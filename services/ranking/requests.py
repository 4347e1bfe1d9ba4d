"""From a RankRequest to the service's own terms, or to InvalidArgument naming every wrong field.

It knows the proto's limits. Pictures are decoded separately, since decoding costs far more and needs the release's
picture size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from perfusion.v1 import ranking_service_pb2 as pb
from perfusion.v1.user_pb2 import UserEmbedding

from contract.limits import MAX_RANKED_IMAGES
from services.ranking.ports import RewardUser
from services.runtime.callers import is_client
from services.runtime.errors import PermissionDenied
from services.runtime.fields import Fields
from services.runtime.images import Decoder, ImageRefused


@dataclass(frozen=True)
class Query:
    """A valid request, its pictures still encoded."""

    user_id: str
    prompt: str
    release: int  # 0: the one in service
    images: Sequence[bytes]
    user: RewardUser | None  # where the caller has the vectors


def query_of(request: pb.RankRequest) -> Query:
    """Checks everything but the pictures' content."""
    if request.HasField("embedding") and is_client():
        raise PermissionDenied("embedding: only the platform's own parts hand in vectors", field="embedding")
    fields, most = Fields(), MAX_RANKED_IMAGES
    query = Query(
        user_id=fields.user_id(request.user_id),
        prompt=fields.prompt(request.prompt),
        release=fields.release(request.release),
        images=request.images,
        user=_user(request.embedding) if request.HasField("embedding") else None,
    )
    if query.user is not None:
        given = request.embedding
        fields.require(given.user_id == query.user_id, "embedding.user_id", "must be the request's user_id")
        fields.require(0 < given.release == query.release, "embedding.release", "must be the request's release")
    fields.require(0 < len(request.images) <= most, "images", f"must be 1 to {most} pictures")
    fields.done()
    return query


def check_width(user: RewardUser, width: int) -> None:
    """InvalidArgument where vectors are not so wide; it follows from the release, which `query_of` does not know."""
    fields = Fields()
    for name, vector in (("reward_text_user", user.text), ("reward_image_user", user.image)):
        fields.require(vector.shape == (width,), f"embedding.{name}", f"must have {width} numbers")
        fields.require(bool(np.isfinite(vector).all()), f"embedding.{name}", "must be finite")
    fields.done()


def _user(embedding: UserEmbedding) -> RewardUser:
    return RewardUser(
        text=np.asarray(embedding.reward_text_user, np.float32),
        image=np.asarray(embedding.reward_image_user, np.float32),
    )


async def decoded(images: Sequence[bytes], size_px: int, decoder: Decoder) -> NDArray[np.uint8]:
    """The pictures  # (N, H, W, 3)

    One after the other, so that no call takes all places of the decoder and a cancelled one stops between pictures.
    """
    fields, found = Fields(), []
    for i, data in enumerate(images):
        try:
            found.append(await decoder.decode(data, size_px))
        except ImageRefused as refused:
            fields.refuse(f"images[{i}]", str(refused))
    fields.done()
    return np.stack(found)
