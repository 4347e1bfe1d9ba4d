"""From the service's own terms to the API's messages. It decides nothing."""

from collections.abc import Iterable

from perfusion.v1 import ranking_service_pb2 as pb

from services.ranking.scoring import Score


def response_of(scores: Iterable[Score], release: int) -> pb.RankResponse:
    """The scores, in the order of the pictures."""
    found = [pb.ImageScore(score=score.score, rank=score.rank) for score in scores]
    return pb.RankResponse(scores=found, release=release)
