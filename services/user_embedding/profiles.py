"""A merchant's profile, and what a release's user encoder makes of it: the service's own terms, plain data.

Which features and values a profile may have, and how they are encoded, contract/feature_schema.py says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

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
    """What the user encoder says of one encoded profile."""

    reward_text_user: NDArray[np.float32]  # (d,) padded
    reward_image_user: NDArray[np.float32]  # (d,) padded
    generator_user: NDArray[np.float32]  # (d,) padded
    favours: NDArray[np.float32]  # (V,) of the release's vocabulary, not padded


@dataclass(frozen=True)
class UserEmbedding:
    """What one release makes of a merchant."""

    user_id: str
    release: int
    vectors: UserVectors
    unknown_features: tuple[str, ...]  # names, of features that the release does not know or not the value of
