"""Between the API's messages and this service's plain types, without judging either."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp
from perfusion.v1 import user_pb2

from services.user_embedding.embeddings import UserVectors
from services.user_embedding.profiles import Value
from services.user_embedding.store import StoredProfile


def value_of(message: user_pb2.FeatureValue) -> Value | None:
    """The value that is set, None if none is."""
    match message.WhichOneof("kind"):
        case "string_value":
            return message.string_value
        case "string_list_value":
            return tuple(message.string_list_value.values)
        case "number_value":
            return message.number_value
        case _:
            return None


def feature_message(value: Value) -> user_pb2.FeatureValue:
    """The message that `value_of` reads back."""
    if isinstance(value, tuple):
        return user_pb2.FeatureValue(string_list_value=user_pb2.StringList(values=value))
    if isinstance(value, str):
        return user_pb2.FeatureValue(string_value=value)
    return user_pb2.FeatureValue(number_value=value)


def profile_message(profile: StoredProfile) -> user_pb2.UserProfile:
    """A profile as stored."""
    update_time = Timestamp()
    update_time.FromDatetime(profile.update_time)
    features = {name: feature_message(value) for name, value in profile.features.items()}
    return user_pb2.UserProfile(user_id=profile.user_id, features=features, update_time=update_time)


def embedding_message(user_id: str, release: int, vectors: UserVectors) -> user_pb2.UserEmbedding:
    """A user's vectors with the release they belong to."""
    return user_pb2.UserEmbedding(
        user_id=user_id,
        release=release,
        reward_text_user=vectors.reward_text_user.tolist(),
        reward_image_user=vectors.reward_image_user.tolist(),
        generator_user=vectors.generator_user.tolist(),
    )
