"""From the service's own terms to the API's messages. It decides nothing."""

from collections.abc import Iterable

from perfusion.v1 import ranking_service_pb2 as pb

from services.ranking.scoring import Score


def response_of(scores: Iterable[Score], release: int, unread_phrases: Iterable[str]) -> pb.RankResponse:
    """The scores, in the order of the pictures, and the phrases that do not count in them."""
    found = [pb.ImageScore(score=score.score, rank=score.rank) for score in scores]
    return pb.RankResponse(scores=found, release=release, unread_phrases=unread_phrases)
