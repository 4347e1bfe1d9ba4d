"""RankingService: requests checked and turned into work, and the outcome back into messages."""

from dataclasses import dataclass

from perfusion.v1 import ranking_service_pb2 as pb
from perfusion.v1 import ranking_service_pb2_grpc as pb_grpc

from services.ranking import requests
from services.ranking.messages import response_of
from services.ranking.ranker import Ranker
from services.runtime.images import Decoder
from services.runtime.release import Releases


@dataclass(frozen=True)
class RankingServicer(pb_grpc.RankingServiceServicer):
    """Every call belongs to one release: the one it names, or the one in service when it arrives."""

    ranker: Ranker
    releases: Releases
    decoder: Decoder

    async def Rank(self, request: pb.RankRequest, context: object) -> pb.RankResponse:
        query = requests.query_of(request)
        with self.releases.serving(query.release) as release:
            if query.user is not None:
                requests.check_width(query.user, release.sizes.reward_user_width)
            images = await requests.decoded(query.images, release.sizes.image_size_px, self.decoder)  # (N, H, W, 3)
            prompt = release.vocabulary.canonical(query.prompt)
            scores = await self.ranker.rank(release, query.user_id, prompt, images, query.user)
        unread = release.vocabulary.typed(query.prompt, self.ranker.reward.unread(release, prompt))
        return response_of(scores, release.number, unread)
