"""How long each method may take where its caller does not say, all attempts together.

docs/clients.md has the same numbers, for clients in other languages.
"""

from __future__ import annotations

READING_S = 10.0  # of the methods that look something up
LONGER_S = {
    "Generate": 120.0,
    "Rank": 60.0,
    "GetGroup": 30.0,  # with its pictures
    "SubmitFeedback": 30.0,  # until Kafka has acknowledged the event
    "BatchGetUserEmbeddings": 30.0,
}


def deadline_s(request: object) -> float:
    """Seconds for a call with this request; a method's request is named after it."""
    return LONGER_S.get(type(request).__name__.removesuffix("Request"), READING_S)
