"""UserEmbeddingService: requests checked and turned into work on profiles and vectors, and back into messages.

Knows the API. Does not know SQL, Triton, or how a feature is encoded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from perfusion.v1 import user_embedding_service_pb2 as pb
from perfusion.v1 import user_embedding_service_pb2_grpc as pb_grpc
from perfusion.v1 import user_pb2

from services.runtime.errors import NotFound
from services.runtime.fields import Fields
from services.runtime.release import Releases
from services.user_embedding.embeddings import Embeddings
from services.user_embedding.messages import embedding_message, profile_message, value_of
from services.user_embedding.profiles import encode, violations
from services.user_embedding.store import ProfileStore, StoredProfile

MAX_USERS = 256  # of one batch, as the proto promises


class UserEmbeddingServicer(pb_grpc.UserEmbeddingServiceServicer):
    """Every profile is judged by the release in service, every vector made by the release asked for."""

    def __init__(
        self, profiles: ProfileStore, releases: Releases, embeddings: Embeddings, now: Callable[[], datetime]
    ) -> None:
        self._profiles = profiles
        self._releases = releases
        self._embeddings = embeddings
        self._now = now

    async def PutUserProfile(self, request: pb.PutUserProfileRequest, context: object) -> pb.PutUserProfileResponse:
        features = {name: value_of(value) for name, value in request.features.items()}
        fields = Fields()
        user_id = fields.user_id(request.user_id)
        for field, problem in violations(self._releases.current().feature_schema, features):
            fields.refuse(field, problem)
        fields.done()
        known = {name: value for name, value in features.items() if value is not None}
        profile = StoredProfile(user_id, known, self._now())
        await self._profiles.put(profile)
        return pb.PutUserProfileResponse(profile=profile_message(profile))

    async def GetUserProfile(self, request: pb.GetUserProfileRequest, context: object) -> pb.GetUserProfileResponse:
        fields = Fields()
        user_id = fields.user_id(request.user_id)
        fields.done()
        [profile] = await self._found([user_id], ["user_id"])
        return pb.GetUserProfileResponse(profile=profile_message(profile))

    async def GetUserEmbedding(
        self, request: pb.GetUserEmbeddingRequest, context: object
    ) -> pb.GetUserEmbeddingResponse:
        fields = Fields()
        user_id = fields.user_id(request.user_id)
        release = fields.release(request.release)
        fields.done()
        [embedding] = await self._embedded([user_id], ["user_id"], release)
        return pb.GetUserEmbeddingResponse(embedding=embedding)

    async def BatchGetUserEmbeddings(
        self, request: pb.BatchGetUserEmbeddingsRequest, context: object
    ) -> pb.BatchGetUserEmbeddingsResponse:
        fields = Fields()
        fields.require(0 < len(request.user_ids) <= MAX_USERS, "user_ids", f"must name 1 to {MAX_USERS} users")
        paths = [f"user_ids[{i}]" for i in range(min(len(request.user_ids), MAX_USERS))]
        for user_id, path in zip(request.user_ids, paths, strict=False):
            fields.user_id(user_id, path)
        release = fields.release(request.release)
        fields.done()
        return pb.BatchGetUserEmbeddingsResponse(embeddings=await self._embedded(request.user_ids, paths, release))

    async def _found(self, user_ids: Sequence[str], paths: Sequence[str]) -> list[StoredProfile]:
        """All the profiles, in order; NotFound names the field of the first user without one."""
        profiles = await self._profiles.get(user_ids)
        for user_id, path in zip(user_ids, paths, strict=True):
            if user_id not in profiles:
                raise NotFound(f"{path}: there is no profile of {user_id!r}", field=path)
        return [profiles[user_id] for user_id in user_ids]

    async def _embedded(
        self, user_ids: Sequence[str], paths: Sequence[str], number: int
    ) -> list[user_pb2.UserEmbedding]:
        release = self._releases.get(number)
        profiles = await self._found(user_ids, paths)
        rows = [encode(release.feature_schema, profile.features) for profile in profiles]
        vectors = await self._embeddings.of(release.number, rows)
        return [
            embedding_message(user_id, release.number, mine) for user_id, mine in zip(user_ids, vectors, strict=True)
        ]
