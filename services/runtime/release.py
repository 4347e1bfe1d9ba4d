"""Releases as the export wrote them: which one is in service, and what its manifest and feature schema say.

It reads <model repository>/releases/. It does not know whether Triton has a release loaded, and decides nothing about
which one should be in service.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.runtime.errors import FailedPrecondition, Unavailable
from services.runtime.feature_schema import FeatureSchema


@dataclass(frozen=True)
class NoiseSchedule:
    """How the denoiser was trained: what every scheduler needs."""

    num_train_timesteps: int
    beta_start: float
    beta_end: float
    beta_schedule: str  # "scaled_linear" or "linear"
    prediction_type: str  # "epsilon"


@dataclass(frozen=True)
class Defaults:
    """What a request that leaves a setting out gets."""

    guidance_scale: float
    adapter_scale: float
    num_steps: int
    scheduler: str  # "ddim", "dpmsolver++2m" or "euler"


@dataclass(frozen=True)
class PhraseKind:
    """Phrases that describe the same thing and exclude each other, such as all sleeves.

    `only_with` has sets of phrases, each of one other kind: a prompt that names another phrase of that kind, such as
    trousers where dresses and coats are needed, leaves no place for these.
    """

    kind: str
    phrases: tuple[str, ...]
    only_with: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Release:
    """One consistent set of models. Sizes are without the batch dimension."""

    number: int
    source_commit: str
    image_size_px: int
    latent_channels: int
    latent_size: int
    text_tokens: int
    text_width: int
    generator_user_width: int
    choice_width: int  # phrases that the generator chooses from for a user
    reward_user_width: int  # of each tower's
    reward_width: int
    reward_logit_scale: float  # exp(logit_scale): scores are this times the cosine
    scheduler: NoiseSchedule
    defaults: Defaults
    feature_schema: FeatureSchema
    phrases: tuple[PhraseKind, ...]
    tokenizer_file: Path  # the generator's text encoder's
    reward_tokenizer_file: Path  # the reward model's


def read_release(directory: Path) -> Release:
    """Reads one release's files; OSError, KeyError or ValueError when any is missing or malformed."""
    manifest: Mapping[str, Any] = json.loads((directory / "manifest.json").read_text())
    sizes = ("image_size_px", "latent_channels", "latent_size", "text_tokens", "text_width", "generator_user_width")
    return Release(
        number=int(manifest["release"]),
        source_commit=str(manifest["source_commit"]),
        **{name: int(manifest[name]) for name in (*sizes, "choice_width", "reward_user_width", "reward_width")},
        reward_logit_scale=float(manifest["reward_logit_scale"]),
        scheduler=NoiseSchedule(**manifest["scheduler"]),
        defaults=Defaults(**manifest["defaults"]),
        feature_schema=FeatureSchema.parse(json.loads((directory / "feature_schema.json").read_text())),
        phrases=tuple(
            PhraseKind(
                str(entry["kind"]),
                tuple(map(str, entry["phrases"])),
                tuple(tuple(map(str, needed)) for needed in entry.get("only_with", ())),
            )
            for entry in json.loads((directory / "phrases.json").read_text())
        ),
        tokenizer_file=directory / "tokenizer.json",
        reward_tokenizer_file=directory / "reward_tokenizer.json",
    )


class Releases:
    """The releases on disk. A release never changes, so each is read once; `current` is read every time."""

    def __init__(self, model_repository: Path) -> None:
        self._directory = model_repository / "releases"
        self._known: dict[int, Release] = {}

    def current(self) -> Release:
        """The release in service; Unavailable while there is none."""
        try:
            number = int((self._directory / "current").read_text())
            return self._read(number)
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise Unavailable("release", "in service cannot be read") from error

    def get(self, number: int) -> Release:
        """The release of that number, 0 meaning the one in service; FailedPrecondition when it is not there."""
        if number == 0:
            return self.current()
        try:
            return self._read(number)
        except (OSError, KeyError, ValueError, TypeError) as error:
            raise FailedPrecondition(f"release {number} is not loaded") from error

    def _read(self, number: int) -> Release:
        if number not in self._known:
            self._known[number] = read_release(self._directory / str(number))
        return self._known[number]
