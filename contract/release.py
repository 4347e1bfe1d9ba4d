"""A release on disk: one consistent set of models, and all that is said of it beside their files.

    <repository>/<model>/<number>/model.onnx …
    <repository>/releases/<number>/manifest.json        sizes, schedule, defaults, what it was made of
                                   feature_schema.json  a profile's features
                                   phrases.json         the vocabulary
                                   tokenizer.json, reward_tokenizer.json
                                   history.json         how merchants vary; where absent, picks move no favours
    <repository>/releases/current                       the number in service

The export writes a release, deploy.releases the pointer, services read both; contract/repository.py has the folder
around them. Knows files; neither Triton nor what a model computes.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from contract import limits
from contract.errors import ManifestError, reading
from contract.feature_schema import FeatureSchema
from contract.history import HISTORY, Population
from contract.vocabulary import Vocabulary

BETA_SCHEDULES = ("scaled_linear", "linear")
MANIFEST, FEATURE_SCHEMA, PHRASES = "manifest.json", "feature_schema.json", "phrases.json"
TOKENIZER, REWARD_TOKENIZER = "tokenizer.json", "reward_tokenizer.json"


@dataclass(frozen=True)
class Sizes:
    """Tensor sizes by config.pbtxt, without the batch dimension; widths that releases differ in are padded."""

    image_size_px: int
    latent_channels: int
    latent_size: int
    text_tokens: int
    text_width: int
    feature_slots: int  # padded
    phrases: int  # padded
    generator_user_width: int  # padded
    reward_user_width: int  # of each tower's; padded
    reward_width: int


@dataclass(frozen=True)
class SizesInUse:
    """How much of the padded widths a release uses."""

    feature_slots: int
    phrases: int
    generator_user_width: int  # 0: nothing personal but wishes
    reward_user_width: int


@dataclass(frozen=True)
class NoiseSchedule:
    """How the denoiser was trained: what every sampler needs.

    Raises:
        ManifestError: services do not know such a schedule.
    """

    num_train_timesteps: int
    beta_start: float
    beta_end: float
    beta_schedule: str  # of BETA_SCHEDULES
    prediction_type: str  # "epsilon"

    def __post_init__(self) -> None:
        if self.beta_schedule not in BETA_SCHEDULES:
            raise ManifestError(f"the noise schedule is {self.beta_schedule!r}; services know {BETA_SCHEDULES}")
        if self.prediction_type != "epsilon":
            raise ManifestError(f"prediction_type is {self.prediction_type!r}; services know 'epsilon'")


@dataclass(frozen=True)
class Defaults:
    """What a request that leaves a setting out gets.

    Raises:
        ManifestError: a request could not ask for it.
    """

    guidance_scale: float = 4.0
    adapter_scale: float = 1.0
    num_steps: int = 20
    sampler: str = "ddim"  # of limits.SAMPLERS

    def __post_init__(self) -> None:
        if self.sampler not in limits.SAMPLERS:
            raise ManifestError(f"sampler is {self.sampler!r}, not one of {limits.SAMPLERS}")
        if not isinstance(self.num_steps, int):
            raise ManifestError(f"num_steps is {self.num_steps!r}, not a whole number")
        for name, least, most in (
            ("num_steps", 1, limits.MAX_STEPS),
            ("guidance_scale", 0, limits.MAX_GUIDANCE_SCALE),
            ("adapter_scale", 0, limits.MAX_ADAPTER_SCALE),
        ):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
                raise ManifestError(f"{name} is {value!r}, not a number from {least} to {most:g}")


@dataclass(frozen=True)
class ModelFiles:
    """One model's files, and how well they compute what they should."""

    files: Mapping[str, str]  # name → SHA-256
    max_abs_error: float  # of ONNX Runtime against torch in float64
    tolerance: float
    fingerprint: str  # of everything that the files depend on


@dataclass(frozen=True)
class Manifest:
    """What manifest.json says."""

    release: int
    source_commit: str
    create_time: str  # RFC 3339, UTC
    weights: Mapping[str, str]  # file → SHA-256
    models: Mapping[str, ModelFiles]
    sizes: Sizes
    in_use: SizesInUse
    noise_schedule: NoiseSchedule
    reward_logit_scale: float  # exp(logit_scale): scores are this times the cosine
    defaults: Defaults
    texts: Mapping[str, str] = field(default_factory=dict)  # file beside the manifest → SHA-256; older ones say nothing
    trained_on: Mapping[str, str] = field(default_factory=dict)  # table and its version; nothing of parts given whole
    distilled: Mapping[str, Any] = field(default_factory=dict)  # of a one-pass denoiser: at which guidance, from which

    def to_json(self) -> dict[str, Any]:
        """The content of manifest.json."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> "Manifest":
        """What `to_json` gave.

        Raises:
            ManifestError: a field is missing, unknown or out of range.
        """
        given = _given(cls, data, "the manifest")
        for name, kind in _PARTS.items():
            given[name] = kind(**_given(kind, given[name], name))
        given["models"] = {m: ModelFiles(**_given(ModelFiles, e, f"models.{m}")) for m, e in given["models"].items()}
        found = cls(**given)
        if not isinstance(found.release, int) or found.release < 1:
            raise ManifestError(f"release is {found.release!r}, not a number from 1")
        for part in (found.sizes, found.in_use):
            for name, size in asdict(part).items():
                least = 0 if name == "generator_user_width" else 1
                if not isinstance(size, int) or size < least:
                    raise ManifestError(f"{name} is {size!r}, not a size")
        for name, used in asdict(found.in_use).items():
            if used > getattr(found.sizes, name):
                raise ManifestError(f"{name}: {used} in use, the tensors hold {getattr(found.sizes, name)}")
        if not (math.isfinite(found.reward_logit_scale) and found.reward_logit_scale > 0):
            raise ManifestError(f"reward_logit_scale is {found.reward_logit_scale!r}, not a positive number")
        return found


@dataclass(frozen=True)
class Release:
    """A release as services read it."""

    manifest: Manifest
    feature_schema: FeatureSchema
    vocabulary: Vocabulary
    tokenizer_file: Path  # the generator's text encoder's
    reward_tokenizer_file: Path  # the reward model's
    population: Population | None = None  # how merchants vary; None: a merchant's picks move no favours

    @property
    def number(self) -> int:
        """Its name in every call."""
        return self.manifest.release

    @property
    def sizes(self) -> Sizes:
        """Of its tensors."""
        return self.manifest.sizes


def release_dir(repository: Path, number: int) -> Path:
    """Where a release's own files lie."""
    return repository / "releases" / str(number)


def model_dir(repository: Path, model: str, number: int) -> Path:
    """Where a model's files of a release lie."""
    return repository / model / str(number)


def current_file(repository: Path) -> Path:
    """The file that names the release in service."""
    return repository / "releases" / "current"


def current_number(repository: Path) -> int:
    """The release in service.

    Raises:
        ManifestError: there is none, or the file does not name one.
    """
    with reading(current_file(repository), ManifestError):
        return int(current_file(repository).read_text())


def read_manifest(directory: Path) -> Manifest:
    """Of the release in this directory.

    Raises:
        ManifestError: it cannot be read, or says what cannot be.
    """
    with reading(directory / MANIFEST, ManifestError):
        return Manifest.from_json(json.loads((directory / MANIFEST).read_text(encoding="utf-8")))


def read_release(directory: Path) -> Release:
    """All files of the release in this directory.

    Raises:
        InputError: one is missing or out of form, or they contradict each other.
    """
    manifest = read_manifest(directory)
    schema, vocabulary = FeatureSchema.read(directory / FEATURE_SCHEMA), Vocabulary.read(directory / PHRASES)
    for name, said, found in (
        ("feature_slots", manifest.in_use.feature_slots, schema.n_slots),
        ("phrases", manifest.in_use.phrases, len(vocabulary.phrases)),
    ):
        if said != found:
            raise ManifestError(f"{directory}: the manifest has {said} {name}, its own files {found}")
    population = Population.read(directory / HISTORY, len(vocabulary.phrases))
    if population is None and HISTORY in manifest.texts:
        raise ManifestError(f"{directory} lacks {HISTORY}, which its manifest names")
    return Release(manifest, schema, vocabulary, directory / TOKENIZER, directory / REWARD_TOKENIZER, population)


_PARTS: Mapping[str, type[Any]] = {
    "sizes": Sizes, "in_use": SizesInUse, "noise_schedule": NoiseSchedule, "defaults": Defaults,
}  # fmt: skip


def _given(kind: type[Any], data: Any, what: str) -> dict[str, Any]:
    """The fields of a dataclass, all of them there; a later release may say more, which is left out."""
    names = {each.name for each in fields(kind)}
    may_lack = {each.name for each in fields(kind) if each.default_factory is not MISSING}
    if not isinstance(data, dict):
        raise ManifestError(f"{what} is a {type(data).__name__}, not fields by name")
    if missing := sorted(names - may_lack - data.keys()):
        raise ManifestError(f"{what} lacks {', '.join(missing)}")
    return {name: data[name] for name in names & data.keys()}
