"""RankingService: requests checked, pictures decoded, and scores put into messages.

Knows the API and its limits. Does not know how anything is scored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from perfusion.v1 import ranking_service_pb2 as pb
from perfusion.v1 import ranking_service_pb2_grpc as pb_grpc

from services.ranking.ranker import Ranker
from services.runtime.fields import Fields
from services.runtime.images import ImageLimits, ImageRefused, decode_image
from services.runtime.release import Releases

MAX_IMAGES = 64  # of one call, as the proto promises


class RankingServicer(pb_grpc.RankingServiceServicer):
    """Every call belongs to one release: the one it names, or the one in service when it arrives."""

    def __init__(self, ranker: Ranker, releases: Releases, limits: ImageLimits) -> None:
        self._ranker = ranker
        self._releases = releases
        self._limits = limits

    async def Rank(self, request: pb.RankRequest, context: object) -> pb.RankResponse:
        _check(request)
        release = self._releases.get(request.release)
        images = await self._decode(request.images, release.image_size_px)  # (N, H, W, 3)
        scores = await self._ranker.rank(release, request.user_id, request.prompt, images)
        return pb.RankResponse(
            scores=[pb.ImageScore(score=score.score, rank=score.rank) for score in scores], release=release.number
        )

    async def _decode(self, images: Sequence[bytes], size_px: int) -> NDArray[np.uint8]:
        """Each in a thread of its own turn, so that other calls go on and a cancelled one stops between pictures."""
        fields, decoded = Fields(), []
        for i, data in enumerate(images):
            try:
                decoded.append(await asyncio.to_thread(decode_image, data, size_px, self._limits))
            except ImageRefused as refused:
                fields.refuse(f"images[{i}]", str(refused))
        fields.done()
        return np.stack(decoded)


def _check(request: pb.RankRequest) -> None:
    fields = Fields()
    fields.user_id(request.user_id)
    fields.prompt(request.prompt)
    fields.release(request.release)
    fields.require(0 < len(request.images) <= MAX_IMAGES, "images", f"must be 1 to {MAX_IMAGES} pictures")
    fields.done()
