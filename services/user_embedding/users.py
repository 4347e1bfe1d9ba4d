"""Users: stores their profiles, encodes them with a release's user encoder, and has favours follow their picks.

A profile with features that a release does not know is no error: they are named in the answer and counted. Does not
know the API's messages, SQL or Triton.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from contract.release import Release
from services.runtime.clock import Clock
from services.runtime.errors import NotFound
from services.user_embedding.embeddings import Embeddings
from services.user_embedding.favours import PersonalFavours
from services.user_embedding.metrics import ProfileMetrics
from services.user_embedding.ports import Histories, Profiles
from services.user_embedding.profiles import Profile, StoredProfile, UserEmbedding


@dataclass(frozen=True)
class Asked:
    """A user that a request names, and in which of its fields."""

    user_id: str
    field: str


@dataclass(frozen=True)
class Users:
    """Every profile is stored as given; each release encodes it by its own schema."""

    profiles: Profiles
    histories: Histories
    embeddings: Embeddings
    favours: PersonalFavours
    metrics: ProfileMetrics
    clock: Clock

    async def put(self, user_id: str, features: Profile) -> StoredProfile:
        """Stores a whole profile in place of an earlier one."""
        profile = StoredProfile(user_id, features, self.clock())
        await self.profiles.put(profile)
        return profile

    async def profiles_of(self, asked: Sequence[Asked]) -> list[StoredProfile]:
        """All the profiles, in order; NotFound names the field of the first user without one."""
        found = await self.profiles.get([each.user_id for each in asked])
        for each in asked:
            if each.user_id not in found:
                raise NotFound(f"{each.field}: there is no profile of {each.user_id!r}", field=each.field)
        return [found[each.user_id] for each in asked]

    async def embedded(self, asked: Sequence[Asked], release: Release) -> list[UserEmbedding]:
        """The release's vectors of each user, with the favours after their picks, in order; NotFound as above."""
        profiles = await self.profiles_of(asked)
        encoded = [release.feature_schema.encode(profile.features) for profile in profiles]
        vectors = await self.embeddings.of(release, [each.slots for each in encoded])
        for each in encoded:
            self.metrics.count_unknown(each.unknown, release.feature_schema)
        users = [profile.user_id for profile in profiles]
        histories = await self.histories.of(users) if release.population is not None else {}
        found = list[UserEmbedding]()
        for profile, of_profile, each in zip(profiles, vectors, encoded, strict=True):
            picks = histories.get(profile.user_id, ())
            personal, version = await self.favours.of(release, each.slots, of_profile, picks)
            found.append(UserEmbedding(profile.user_id, release.number, personal, each.unknown, profile, version))
        return found
