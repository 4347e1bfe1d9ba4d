"""A client's order, checked and with every default filled in, and its results: the service's own terms.

Plain data. It knows neither tables nor models, and of messages only a profile's values, which it passes on.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from numpy import float32, uint8
from numpy.typing import NDArray
from perfusion.v1 import user_pb2

from contract.history import NO_HISTORY, HistoryVersion
from contract.vocabulary import Vocabulary
from services.generation.pictures import Loss

Features = Mapping[str, user_pb2.FeatureValue]


@dataclass(frozen=True)
class Settings:
    """How a group is made; the same fields as the GenerationSettings message."""

    num_steps: int
    guidance_scale: float
    adapter_scale: float
    sampler: str  # of contract.limits.SAMPLERS
    seed: int  # of candidate 0
    strength: float | None  # None without reference image
    reference_image_sha256: str  # "" without reference image
    refused_wishes: tuple[str, ...]  # phrases that must not be added
    variety: float | None  # of the noise on favours; None in groups from before it was kept


@dataclass(frozen=True)
class Order:
    """One valid GenerateRequest."""

    request_id: str
    fingerprint: str  # of everything in the request but request_id
    user_id: str
    prompt: str
    negative_prompt: str
    num_candidates: int
    settings: Settings
    reference: NDArray[uint8] | None  # (H, W, 3), of the release's size
    preview_every_n_steps: int  # 0: none
    may_explore: bool  # it leaves the variety to the service

    def canonical(self, vocabulary: Vocabulary) -> "Order":
        """The order as models read it: with the phrases of this vocabulary in the place of their labels."""
        refused = tuple(map(vocabulary.canonical, self.settings.refused_wishes))
        return replace(
            self,
            prompt=vocabulary.canonical(self.prompt),
            negative_prompt=vocabulary.canonical(self.negative_prompt),
            settings=replace(self.settings, refused_wishes=refused),
        )


@dataclass(frozen=True)
class User:
    """One release's vectors of a user."""

    features: Features  # of the profile that the vectors were made from
    reward_text: NDArray[float32]  # (d,)
    reward_image: NDArray[float32]  # (d,)
    generator: NDArray[float32]  # (d,)
    favours: NDArray[float32]  # (V,) of the release's vocabulary
    history: HistoryVersion = NO_HISTORY  # behind the favours


@dataclass(frozen=True)
class Candidate:
    """One picture of a group."""

    image_id: str
    uri: str
    seed: int
    score: float
    rank: int  # 1 is best
    wishes: tuple[str, ...]  # added to the prompt, those first that the merchant favours most
    release: int | None  # that drew it; None, in groups from before it was kept, is the group's
    png: bytes = b""  # empty when only the record was read
    loss: Loss | None = None  # why there is no png although it was to be read


@dataclass(frozen=True)
class Group:
    """A finished round; the same fields as the Group message."""

    group_id: str
    request_id: str
    user_id: str
    prompt: str
    negative_prompt: str
    release: int  # that ranked it, and drew all but some candidates of a mixed group
    create_time_us: int  # microseconds since 1970, UTC
    settings: Settings
    candidates: tuple[Candidate, ...]  # best first
    arm: str | None  # of contract.rollout.ARMS; None in groups from before there were arms
    propensity: float | None  # the chance of this arm
    trial_release: int | None  # of a mixed group, and of a live one that was to be mixed


@dataclass(frozen=True)
class Unread:
    """Phrases that models do not read, because they do not fit (contract/tokens.py)."""

    prompt: tuple[str, ...] = ()
    negative_prompt: tuple[str, ...] = ()


@dataclass(frozen=True)
class Accepted:
    """The order is valid and its work begins, or is already done."""

    group_id: str
    release: int


@dataclass(frozen=True)
class Queued:
    """The round waits for others."""

    position: int  # from 1
    expected_wait_s: float  # by what those before it have left to do


@dataclass(frozen=True)
class Progress:
    """One denoising step is done."""

    step: int  # from 1
    num_steps: int  # that this round runs
    previews: tuple[bytes, ...]  # PNG, in seed order; empty when none is due


Scores = list[tuple[float, int]]  # (score, rank) in the order the pictures were given
