"""A stored profile is encoded as in training; what a release does not know of it is unknown, said and counted."""

from collections.abc import Sequence

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from contract.release import Release
from services.runtime.errors import NotFound
from services.runtime.records import Offsets
from services.user_embedding.embeddings import Embeddings
from services.user_embedding.favours import PersonalFavours
from services.user_embedding.incoming import Incoming
from services.user_embedding.metrics import ProfileMetrics
from services.user_embedding.ports import Histories, Profiles, UserEncoder
from services.user_embedding.profiles import History, Profile, Slots, StoredProfile, UserVectors, Value
from services.user_embedding.users import Asked, Users
from tests.services.market import release_of

NOW_US = 1_700_000_000_000_000


class Kept(Profiles):
    """Profiles in memory."""

    def __init__(self) -> None:
        self.profiles: dict[str, StoredProfile] = {}

    async def put(self, profile: StoredProfile) -> None:
        self.profiles[profile.user_id] = profile

    async def get(self, user_ids: Sequence[str]) -> dict[str, StoredProfile]:
        return {user_id: self.profiles[user_id] for user_id in user_ids if user_id in self.profiles}


class NoHistories(Histories):
    """Nobody has picked, and nobody asks: the releases here do not say how merchants vary."""

    async def of(self, user_ids: Sequence[str]) -> dict[str, History]:
        raise AssertionError("a release without population needs no histories")

    async def offsets(self) -> Offsets:
        return {}

    async def apply(self, incoming: Sequence[Incoming], expected: Offsets, reached: Offsets) -> bool:
        return False

    async def sweep(self, before_us: int) -> int:
        return 0


class Repeating(UserEncoder):
    """Vectors that are the slots."""

    async def encode(self, release: Release, rows: Sequence[Slots]) -> list[UserVectors]:
        return [UserVectors(*[np.asarray(row, np.float32)] * 4) for row in rows]


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def users(registry: CollectorRegistry) -> Users:
    embeddings, favours = Embeddings(Repeating(), 10), PersonalFavours(10)
    return Users(Kept(), NoHistories(), embeddings, favours, ProfileMetrics(registry), lambda: NOW_US)


async def encoded(users: Users, profile: Profile) -> tuple[list[float], tuple[str, ...]]:
    """The slots of a profile, and what of it is unknown."""
    await users.put("u", profile)
    [embedding] = await users.embedded([Asked("u", "user_id")], release_of(1))
    return embedding.vectors.generator_user.tolist(), embedding.unknown_features


async def test_every_feature_takes_its_slots_in_schema_order(users: Users) -> None:
    profile: dict[str, Value] = {"years_open": 3.0, "audience": ("men", "teens"), "style": "luxury"}
    assert await encoded(users, profile) == ([2, 1, 3, 0, 3], ())


async def test_missing_features_are_slot_zero_and_not_unknown(users: Users) -> None:
    assert await encoded(users, {}) == ([0, 0, 0, 0, 0], ())


@pytest.mark.parametrize(("years", "slot"), [(0.0, 1), (0.99, 1), (1.0, 2), (5.9, 3), (6.0, 4), (50.0, 4)])
async def test_a_number_counts_the_boundaries_it_has_reached(users: Users, years: float, slot: int) -> None:
    slots, _ = await encoded(users, {"years_open": years})
    assert slots[-1] == slot


async def test_the_order_of_a_list_means_nothing(users: Users) -> None:
    assert await encoded(users, {"audience": ("kids", "women")}) == await encoded(
        users, {"audience": ("women", "kids")}
    )


async def test_what_a_newer_schema_dropped_is_unknown_said_and_counted(
    users: Users, registry: CollectorRegistry
) -> None:
    old: dict[str, Value] = {"style": "gone", "audience": ("gone", "kids"), "years_open": "ten", "extra": 1.0}
    assert await encoded(users, old) == ([0, 4, 0, 0, 0], ("audience", "extra", "style", "years_open"))
    counted = {
        sample.labels["feature"]: sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == "perfusion_unknown_profile_features_total"
    }
    assert counted == {"audience": 1, "style": 1, "years_open": 1, "other": 1}


async def test_a_profile_is_dated_by_the_clock(users: Users) -> None:
    assert await users.put("u", {}) == StoredProfile("u", {}, NOW_US)


async def test_the_field_of_the_first_user_without_profile_is_named(users: Users) -> None:
    await users.put("a", {})
    with pytest.raises(NotFound) as missing:
        await users.profiles_of([Asked("a", "user_ids[0]"), Asked("b", "user_ids[1]")])
    assert missing.value.metadata == {"field": "user_ids[1]"}
