"""From the service's own terms to the API's messages. It decides nothing."""

from perfusion.v1 import user_pb2

from services.runtime.clock import timestamp
from services.user_embedding.profiles import StoredProfile, UserEmbedding, Value


def profile_message(profile: StoredProfile) -> user_pb2.UserProfile:
    """A profile as stored."""
    return user_pb2.UserProfile(
        user_id=profile.user_id,
        features={name: feature_message(value) for name, value in profile.features.items()},
        update_time=timestamp(profile.update_time_us),
    )


def feature_message(value: Value) -> user_pb2.FeatureValue:
    """One feature's value."""
    if isinstance(value, tuple):
        return user_pb2.FeatureValue(string_list_value=user_pb2.StringList(values=value))
    if isinstance(value, str):
        return user_pb2.FeatureValue(string_value=value)
    return user_pb2.FeatureValue(number_value=value)


def embedding_message(embedding: UserEmbedding) -> user_pb2.UserEmbedding:
    """A user's vectors with the release they belong to."""
    vectors = embedding.vectors
    return user_pb2.UserEmbedding(
        user_id=embedding.user_id,
        release=embedding.release,
        reward_text_user=vectors.reward_text_user.tolist(),
        reward_image_user=vectors.reward_image_user.tolist(),
        generator_user=vectors.generator_user.tolist(),
        favours=vectors.favours.tolist(),
        unknown_features=embedding.unknown_features,
        history=user_pb2.HistoryVersion(sequence=embedding.history.sequence, groups=embedding.history.groups),
    )
