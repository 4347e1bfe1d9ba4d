"""UserEmbeddingService: requests checked and turned into work on users, and the outcome back into messages."""

from dataclasses import dataclass

from perfusion.v1 import user_embedding_service_pb2 as pb
from perfusion.v1 import user_embedding_service_pb2_grpc as pb_grpc

from services.runtime.release import Releases
from services.user_embedding import requests
from services.user_embedding.messages import embedding_message, profile_message
from services.user_embedding.users import Users


@dataclass(frozen=True)
class UserEmbeddingServicer(pb_grpc.UserEmbeddingServiceServicer):
    """The release in service validates every profile; the requested release computes every vector."""

    users: Users
    releases: Releases

    async def PutUserProfile(self, request: pb.PutUserProfileRequest, context: object) -> pb.PutUserProfileResponse:
        user_id, features = requests.profile_of(request, self.releases.current().feature_schema)
        profile = await self.users.put(user_id, features)
        return pb.PutUserProfileResponse(profile=profile_message(profile))

    async def GetUserProfile(self, request: pb.GetUserProfileRequest, context: object) -> pb.GetUserProfileResponse:
        [profile] = await self.users.profiles_of([requests.user_of(request)])
        return pb.GetUserProfileResponse(profile=profile_message(profile))

    async def GetUserEmbedding(
        self, request: pb.GetUserEmbeddingRequest, context: object
    ) -> pb.GetUserEmbeddingResponse:
        asked, number = requests.embedding_query_of(request)
        with self.releases.serving(number) as release:
            [embedding] = await self.users.embedded([asked], release)
        return pb.GetUserEmbeddingResponse(
            embedding=embedding_message(embedding), profile=profile_message(embedding.profile)
        )

    async def BatchGetUserEmbeddings(
        self, request: pb.BatchGetUserEmbeddingsRequest, context: object
    ) -> pb.BatchGetUserEmbeddingsResponse:
        asked, number = requests.batch_of(request)
        with self.releases.serving(number) as release:
            embeddings = await self.users.embedded(asked, release)
        return pb.BatchGetUserEmbeddingsResponse(embeddings=map(embedding_message, embeddings))
