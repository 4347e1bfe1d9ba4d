"""A merchant's profile, and the user encoder's outputs for it: the service's own terms, plain data.

contract/feature_schema.py defines a profile's features and values, and their encoding.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from contract.history import NO_HISTORY, HistoryVersion

Value: TypeAlias = str | tuple[str, ...] | float
Profile: TypeAlias = Mapping[str, Value]
Slots: TypeAlias = tuple[int, ...]  # (F,) of the release's schema, not padded


@dataclass(frozen=True)
class StoredProfile:
    """A profile as last put."""

    user_id: str
    features: Profile
    update_time_us: int  # microseconds since 1970, UTC


@dataclass(frozen=True)
class UserVectors:
    """The user encoder's outputs for one encoded profile."""

    reward_text_user: NDArray[np.float32]  # (d,) padded
    reward_image_user: NDArray[np.float32]  # (d,) padded
    generator_user: NDArray[np.float32]  # (d,) padded
    favours: NDArray[np.float32]  # (V,) of the release's vocabulary, not padded


@dataclass(frozen=True)
class PickedGroup:
    """What a pick says: of each candidate the phrases that the platform showed, and whether it was picked."""

    sequence: int  # of the pick
    shown: tuple[tuple[str, ...], ...]
    picked: tuple[bool, ...]


History: TypeAlias = tuple[PickedGroup, ...]  # a merchant's last picks, the oldest first


@dataclass(frozen=True)
class UserEmbedding:
    """One release's vectors of a merchant."""

    user_id: str
    release: int
    vectors: UserVectors
    unknown_features: tuple[str, ...]  # names of features that the release does not know, or whose value it does not
    profile: StoredProfile  # that the vectors were made from
    history: HistoryVersion = NO_HISTORY
