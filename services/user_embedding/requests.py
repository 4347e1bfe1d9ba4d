"""From a request to the service's own terms, or to InvalidArgument naming every wrong field; the only check.

It knows the proto's limits. A release's feature schema defines a profile's content.
"""

from perfusion.v1 import user_embedding_service_pb2 as pb
from perfusion.v1 import user_pb2

from contract.feature_schema import FeatureSchema, shown
from contract.limits import MAX_BATCHED_USERS
from services.runtime.fields import Fields
from services.user_embedding.profiles import Profile, Value
from services.user_embedding.users import Asked


def profile_of(request: pb.PutUserProfileRequest, schema: FeatureSchema) -> tuple[str, Profile]:
    """The user and the profile to store."""
    given = {name: value_of(value) for name, value in request.features.items()}
    fields = Fields()
    user_id = fields.user_id(request.user_id)
    for name, problem in schema.problems(given):
        fields.refuse(f"features[{shown(name)}]", problem)
    fields.done()
    return user_id, {name: value for name, value in given.items() if value is not None}


def user_of(request: pb.GetUserProfileRequest) -> Asked:
    """The user of the requested profile."""
    fields = Fields()
    user_id = fields.user_id(request.user_id)
    fields.done()
    return Asked(user_id, "user_id")


def embedding_query_of(request: pb.GetUserEmbeddingRequest) -> tuple[Asked, int]:
    """The user, and the release, 0 meaning the one in service."""
    fields = Fields()
    user_id, release = fields.user_id(request.user_id), fields.release(request.release)
    fields.done()
    return Asked(user_id, "user_id"), release


def batch_of(request: pb.BatchGetUserEmbeddingsRequest) -> tuple[list[Asked], int]:
    """The users, and the release, 0 meaning the one in service."""
    fields, most = Fields(), MAX_BATCHED_USERS
    fields.require(0 < len(request.user_ids) <= most, "user_ids", f"must name 1 to {most} users")
    asked = [Asked(user_id, f"user_ids[{i}]") for i, user_id in enumerate(request.user_ids[:most])]
    for each in asked:
        fields.user_id(each.user_id, each.field)
    release = fields.release(request.release)
    fields.done()
    return asked, release


def value_of(message: user_pb2.FeatureValue) -> Value | None:
    """The value that is set; None if none is."""
    match message.WhichOneof("kind"):
        case "string_value":
            return message.string_value
        case "string_list_value":
            return tuple(message.string_list_value.values)
        case "number_value":
            return message.number_value
        case _:
            return None
