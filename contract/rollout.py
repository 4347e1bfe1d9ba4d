"""Which release draws what: the live one, one on trial in mixed groups, exploration, and a permanent hold-back.

    <repository>/releases/rollout.json   {"trial": 7, "mixed_share": 0.5, "exploration_share": 0.05,
                                          "base": 1, "holdback_share": 0.02, "salt": "9f…"}

Each request draws one **arm**:

    live         the live release draws every candidate
    mixed        the release on trial draws half of the candidates, chosen at random; of an odd number one more or less
    exploration  the live release, with more noise on the merchant's favours
    holdback     the base release draws every candidate, always for the same merchants

deploy.releases writes the file, services read it with the pointer to the live release. An arm follows from the merchant
and the request_id alone, so that a request that is tried again under the same rollout draws the same one. Knows numbers
of releases and chances; not what releases are.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from contract.errors import ManifestError, reading

LIVE, MIXED, EXPLORATION, HOLDBACK = ARMS = ("live", "mixed", "exploration", "holdback")
FEWEST_MIXED = 2  # candidates that a mixed group has


@dataclass(frozen=True)
class Rollout:
    """Shares of requests (`mixed_share`, `exploration_share`) and of merchants (`holdback_share`), each from 0 to 1.

    Raises:
        ManifestError: a share is no share, all together are more than 1, or a share has no release to go to.
    """

    trial: int | None = None  # the release in mixed groups
    mixed_share: float = 0.0
    exploration_share: float = 0.0
    base: int | None = None  # the release of the hold-back
    holdback_share: float = 0.0
    salt: str = ""  # keeps callers from choosing their arm by their request_id

    def __post_init__(self) -> None:
        for name in ("trial", "base"):
            number = getattr(self, name)
            if number is not None and (isinstance(number, bool) or not isinstance(number, int) or number < 1):
                raise ManifestError(f"{name} is {number!r}, not a release")
        for name in ("mixed_share", "exploration_share", "holdback_share"):
            share = getattr(self, name)
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise ManifestError(f"{name} is {share!r}, not a share from 0 to 1")
        if self.mixed_share + self.exploration_share > 1:
            raise ManifestError("mixed_share and exploration_share are more than all requests together")
        if self.mixed_share and self.trial is None:
            raise ManifestError(f"mixed_share is {self.mixed_share:g} and no release is on trial")
        if self.holdback_share and self.base is None:
            raise ManifestError(f"holdback_share is {self.holdback_share:g} and there is no base release")
        if not isinstance(self.salt, str):
            raise ManifestError(f"salt is {self.salt!r}, not a text")

    @classmethod
    def from_json(cls, data: Any) -> "Rollout":
        """What `to_json` gave; a later version may say more, which is left out.

        Raises:
            ManifestError: it is out of form.
        """
        if not isinstance(data, Mapping):
            raise ManifestError(f"a rollout is a {type(data).__name__}, not fields by name")
        return cls(**{each.name: data[each.name] for each in fields(cls) if each.name in data})

    def to_json(self) -> dict[str, Any]:
        """The content of rollout.json."""
        return asdict(self)

    @property
    def releases(self) -> set[int]:
        """The releases that it needs loaded beside the live one."""
        return {number for number in (self.trial, self.base) if number is not None}


@dataclass(frozen=True)
class Assignment:
    """What a request drew."""

    arm: str  # of ARMS
    propensity: float  # the chance of this arm over all merchants and requests, above 0
    chance_of_live: float  # of the live arm, for a request like this one
    release: int  # that ranks the group and serves all that is not said by candidate
    drawn_by: tuple[int, ...]  # the release of each candidate, in the order of their seeds

    @property
    def trial_release(self) -> int | None:
        """The release on trial in a mixed group."""
        return next((number for number in self.drawn_by if number != self.release), None)


def rollout_file(repository: Path) -> Path:
    """Where the rollout of a model repository stands."""
    return repository / "releases" / "rollout.json"


def read_rollout(repository: Path) -> Rollout:
    """The rollout of a repository; without a file the live release serves everybody.

    Raises:
        ManifestError: it cannot be read, or is out of form.
    """
    path = rollout_file(repository)
    if not path.exists():
        return Rollout()
    with reading(path, ManifestError):
        return Rollout.from_json(json.loads(path.read_text(encoding="utf-8")))


def assign(
    rollout: Rollout, live: int, user_id: str, request_id: str, num_candidates: int, *, may_explore: bool = True
) -> Assignment:
    """The arm of a request, and which release draws each of its candidates.

    A trial of the live release is over, and one candidate cannot be mixed: such requests get the live release.

    Args:
        may_explore: the request leaves open what exploration changes; otherwise it gets the live release as it asks.
    """
    everybody = (live,) * num_candidates
    mixed = rollout.mixed_share if rollout.trial not in (None, live) and num_candidates >= FEWEST_MIXED else 0.0
    exploration = rollout.exploration_share if may_explore else 0.0
    held_back, served = rollout.holdback_share, 1 - rollout.holdback_share
    by_live = served * (1 - mixed - exploration)
    if rollout.base is not None and _chance(rollout.salt, "holdback", user_id) < held_back:
        return Assignment(HOLDBACK, held_back, by_live, rollout.base, (rollout.base,) * num_candidates)
    request = f"{user_id}\0{request_id}"  # merchants may number their requests alike, and must not draw alike
    drawn = _chance(rollout.salt, "arm", request)
    if rollout.trial is not None and drawn < mixed:
        return Assignment(MIXED, served * mixed, by_live, live, _mixed(rollout, live, request, num_candidates))
    if drawn < mixed + exploration:
        return Assignment(EXPLORATION, served * exploration, by_live, live, everybody)
    return Assignment(LIVE, by_live, by_live, live, everybody)


def _mixed(rollout: Rollout, live: int, request: str, num_candidates: int) -> tuple[int, ...]:
    """Half of the candidates by the release on trial, all choices equally likely."""
    assert rollout.trial is not None
    half = num_candidates / 2
    more = _chance(rollout.salt, "half", request) < 0.5
    count = math.ceil(half) if more else math.floor(half)
    by_chance = sorted(range(num_candidates), key=lambda place: _chance(rollout.salt, f"place {place}", request))
    on_trial = set(by_chance[:count])
    return tuple(rollout.trial if place in on_trial else live for place in range(num_candidates))


def _chance(salt: str, what: str, of: str) -> float:
    """A number from 0 to below 1, uniform over `of`, independent for each `what`."""
    digest = hashlib.sha256("\0".join((salt, what, of)).encode()).digest()
    return int.from_bytes(digest[:7]) / 2**56
