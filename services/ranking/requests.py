"""From a RankRequest to the service's own terms, or to InvalidArgument naming every wrong field.

It knows the proto's limits. Pictures are decoded separately, since decoding costs far more and needs the release's
picture size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from perfusion.v1 import ranking_service_pb2 as pb

from contract.limits import MAX_RANKED_IMAGES
from services.runtime.fields import Fields
from services.runtime.images import Decoder, ImageRefused


@dataclass(frozen=True)
class Query:
    """A valid request, its pictures still encoded."""

    user_id: str
    prompt: str
    release: int  # 0: the one in service
    images: Sequence[bytes]


def query_of(request: pb.RankRequest) -> Query:
    """Checks everything but the pictures' content."""
    fields, most = Fields(), MAX_RANKED_IMAGES
    query = Query(
        user_id=fields.user_id(request.user_id),
        prompt=fields.prompt(request.prompt),
        release=fields.release(request.release),
        images=request.images,
    )
    fields.require(0 < len(request.images) <= most, "images", f"must be 1 to {most} pictures")
    fields.done()
    return query


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
