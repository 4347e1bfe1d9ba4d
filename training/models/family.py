"""A family of models on disk: the place of each part, and loading the parts from their standard formats.

The tiny family in training/weights/tiny is one; Stable Diffusion 1.5 and PickScore directories with
an adapter and plug-ins trained on them are another. Knows nothing about training or exporting.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.utils import logging as diffusers_logging
from transformers import CLIPModel, CLIPTextModel, CLIPTokenizer
from transformers.utils import logging as transformers_logging

from contract.errors import ManifestError
from contract.feature_schema import FeatureSchema
from contract.history import HISTORY, Population
from contract.release import Defaults
from contract.vocabulary import Vocabulary
from training.common.errors import WeightsError, reading
from training.common.noise import NUM_TRAIN_TIMESTEPS
from training.common.places import TINY as TINY
from training.common.storage import check_origin, fingerprint, load_pretrained, origin_of, write_origin
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.distilled import Distilled
from training.models.frozen_unet import load_unet
from training.models.preprocess import Preprocess
from training.models.reward_model import PerFusionRM
from training.models.tokens import origin_of_tokens

TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
FORM = (
    "a family is a folder of pipeline/, reward/, feature_schema.json and phrases.json; "
    "python -m training.models.check_family FOLDER lists what is wrong with it"
)
COMPONENTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")  # of a pipeline
M = TypeVar("M", bound=torch.nn.Module)


@dataclass(frozen=True)
class FamilyPaths:
    """The paths of the parts; each may be anywhere, `under` gives the usual places."""

    pipeline: Path  # diffusers StableDiffusionPipeline directory
    reward: Path  # transformers CLIPModel directory with tokenizer/ (or tokenizer files beside it)
    perfusion_rm: Path  # plug-ins for `reward`
    backbone: Path  # diffusers U-Net directory, aligned with the population average; where absent, pipeline/unet
    adapter: Path  # personalised adaptive network on the backbone; may be absent: then taste is in wishes alone
    preferences: Path  # preference weights: how much profiles favour each phrase; may be absent: then no wishes
    feature_schema: Path  # feature_schema.json that both were trained with
    phrases: Path  # phrases.json, the professional vocabulary
    defaults: Path  # defaults.json, the settings that a request may leave out; may be absent
    retraining: Path  # retraining.json, what a retraining made the family from; may be absent

    @classmethod
    def under(cls, root: Path) -> "FamilyPaths":
        return cls(
            pipeline=root / "pipeline",
            reward=root / "reward",
            perfusion_rm=root / "perfusion_rm",
            backbone=root / "backbone",
            adapter=root / "adapter",
            preferences=root / "preferences",
            feature_schema=root / "feature_schema.json",
            phrases=root / "phrases.json",
            defaults=root / "defaults.json",
            retraining=root / "retraining.json",
        )

    def schema(self) -> FeatureSchema:
        return FeatureSchema.read(self._present(self.feature_schema))

    def vocabulary(self) -> Vocabulary:
        return Vocabulary.read(self._present(self.phrases))

    def population(self) -> Population | None:
        """How merchants vary, fitted with the preference weights; None: the family says nothing of it."""
        return Population.read(self.preferences / HISTORY, len(self.vocabulary().phrases))

    def unet(self) -> UNet2DConditionModel:
        """The pre-trained one, from which trainings start."""
        return load_unet(self.pipeline / "unet")

    @property
    def backbone_files(self) -> Path:
        """The diffusers directory of the U-Net that draws."""
        return self.backbone if self.backbone.exists() else self.pipeline / "unet"

    def backbone_unet(self) -> UNet2DConditionModel:
        """The one that draws, with the adapter on it.

        Raises:
            WeightsError: it is missing or damaged, or distilled.json beside it is another U-Net's.
        """
        unet = load_unet(self.backbone_files)
        if (distilled := self.distilled()) is not None:
            distilled.check(unet, self.backbone_files)
        return unet

    def distilled(self) -> Distilled | None:
        """How the U-Net that draws was distilled; None: its noise is not guided.

        Raises:
            WeightsError: distilled.json cannot be read.
        """
        return Distilled.of(self.backbone_files)

    def vae(self) -> AutoencoderKL:
        where = self._present(self.pipeline / "vae")
        return load_pretrained(AutoencoderKL, where, torch_dtype=torch.float32, low_cpu_mem_usage=False)

    def text_encoder(self) -> CLIPTextModel:
        where = self._present(self.pipeline / "text_encoder")
        return load_pretrained(CLIPTextModel, where, dtype=torch.float32)

    def tokenizer(self) -> CLIPTokenizer:
        """The text encoder's, which must be the one that it was trained with, where it says which."""
        found = _tokenizer(self._present(self.pipeline / "tokenizer"))
        check_origin(self.pipeline / "text_encoder", origin_of_tokens(found))
        return found

    def noise_scheduler(self) -> DDIMScheduler:
        """The noise schedule of the U-Net, which must predict ε on as many levels as trainings draw."""
        where = self._present(self.pipeline / "scheduler")
        with reading(where):
            scheduler = DDIMScheduler.from_pretrained(where)
        for key, wanted in (("prediction_type", "epsilon"), ("num_train_timesteps", NUM_TRAIN_TIMESTEPS)):
            if scheduler.config[key] != wanted:
                raise WeightsError(f"{where}: {key} is {scheduler.config[key]!r}; only {wanted!r} is supported")
        return scheduler

    def check_pipeline(self, needed: Sequence[str] = COMPONENTS) -> None:
        """Refuses a pipeline that lacks one of these components, before long work.

        Raises:
            WeightsError: names the missing component.
        """
        if missing := [name for name in needed if not (self._present(self.pipeline) / name).is_dir()]:
            raise WeightsError(f"{self.pipeline} lacks {', '.join(missing)}")

    def clip(self) -> CLIPModel:
        return load_pretrained(CLIPModel, self._present(self.reward), dtype=torch.float32)

    def reward_tokenizer(self) -> CLIPTokenizer:
        """The CLIP's, which must be the one that it was trained with, where it says which."""
        inside = self.reward / "tokenizer"
        found = _tokenizer(inside if inside.is_dir() else self._present(self.reward))
        check_origin(self.reward, origin_of_tokens(found))
        return found

    def preprocess(self, clip: CLIPModel) -> Preprocess:
        path = self._present(self.reward / "preprocessor_config.json")
        with reading(path):
            config = json.loads(path.read_text())
            if not isinstance(config, dict):
                raise WeightsError(f"{path} holds a {type(config).__name__}, not settings by name")
            return Preprocess(config, clip.config.vision_config.image_size)

    def request_defaults(self) -> Defaults:
        """The settings of a request that gives none.

        Raises:
            WeightsError: defaults.json cannot be read, or has a setting that is unknown or out of its range.
        """
        if not self.defaults.is_file():
            return Defaults()
        with reading(self.defaults):
            own = json.loads(self.defaults.read_text(encoding="utf-8"))
        if not isinstance(own, dict):
            raise WeightsError(f"{self.defaults} holds a {type(own).__name__}, not settings by name")
        if unknown := set(own) - set(vars(Defaults())):
            raise WeightsError(f"{self.defaults}: unknown settings {sorted(unknown)}")
        try:
            return Defaults(**own)
        except ManifestError as error:
            raise WeightsError(f"{self.defaults}: {error}") from error

    def perfusion(self, unet: UNet2DConditionModel) -> PersonalisedAdaptiveNetwork | None:
        """The adapter on this U-Net, if the family has one."""
        if not self.adapter.exists():
            return None
        return _frozen(PersonalisedAdaptiveNetwork.load(self.adapter, unet, self.schema()))

    def reward_model(self) -> PerFusionRM:
        return _frozen(PerFusionRM.load(self.perfusion_rm, self.clip(), self.schema()))

    def generator_origin(self) -> dict[str, str]:
        """What a U-Net and an adapter of this family are trained with, beside each other, for origin.json."""
        return _origin_of_generator(self.tokenizer(), self.text_encoder(), self.vae())

    def reward_origin(self) -> dict[str, str]:
        """What plug-ins and preference weights of this family are trained with, for origin.json."""
        return origin_of(self.clip()) | origin_of_tokens(self.reward_tokenizer())

    def check_origins(self) -> None:
        """Refuses a part that was trained with other parts than this family's, where its origin.json says with which.

        Raises:
            WeightsError: names the part and what differs.
        """
        self.check_generator_origins()
        origin = self.reward_origin()
        for part in (self.perfusion_rm, self.preferences):
            check_origin(part, origin)

    def check_generator_origins(self) -> None:
        """The same of the parts that draw."""
        origin = self.generator_origin()
        for part in (self.pipeline / "unet", self.backbone, self.adapter):
            check_origin(part, origin)

    @staticmethod
    def _present(path: Path) -> Path:
        if not path.exists():
            raise WeightsError(f"{path} is missing: {FORM}")
        return path


def hush_libraries() -> None:
    """Turns off progress bars for loading a few megabytes; only a program's main calls this."""
    transformers_logging.disable_progress_bar()
    diffusers_logging.disable_progress_bar()


@contextmanager
def new_family(base: FamilyPaths, parts: Mapping[str, Path], out: Path) -> Iterator[FamilyPaths]:
    """A whole family in `out`, at once or not at all: the base's parts, with these in their places, by their names.

    Gives the places where it is made, for what else belongs to it. Files are copied, not linked, because a team copies
    trained parts over a family's own (docs/training.md).
    """
    unfinished = out.with_name(f"{out.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    places = FamilyPaths.under(unfinished)
    for part, place in vars(places).items():
        source = parts.get(part, getattr(base, part))
        if source.is_dir():
            shutil.copytree(source, place)
        elif source.is_file():
            shutil.copy2(source, place)
    yield places
    shutil.rmtree(out, ignore_errors=True)
    unfinished.rename(out)


def save_pipeline(
    directory: Path,
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    text_encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    scheduler: DDIMScheduler,
) -> None:
    """A diffusers StableDiffusionPipeline directory with fp16 weights."""
    pipeline = StableDiffusionPipeline(
        vae=vae.half(),
        text_encoder=text_encoder.half(),
        tokenizer=tokenizer,
        unet=unet.half(),
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(directory)
    write_origin(directory / "text_encoder", origin_of_tokens(tokenizer))
    write_origin(directory / "unet", _origin_of_generator(tokenizer, text_encoder, vae))


def save_reward_backbone(
    directory: Path, clip: CLIPModel, tokenizer: CLIPTokenizer, mean: Sequence[float], std: Sequence[float]
) -> None:
    """A transformers CLIPModel directory with fp16 weights, its tokenizer and preprocessing."""
    clip.half().save_pretrained(directory)
    tokenizer.save_pretrained(directory / "tokenizer")
    write_origin(directory, origin_of_tokens(tokenizer))
    size_px = clip.config.vision_config.image_size
    preprocessing = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True, "size": {"shortest_edge": size_px}, "resample": 3,
        "do_center_crop": True, "crop_size": {"height": size_px, "width": size_px},
        "do_rescale": True, "rescale_factor": 1 / 255,
        "do_normalize": True, "image_mean": list(mean), "image_std": list(std),
        "do_convert_rgb": True,
    }  # fmt: skip
    (directory / "preprocessor_config.json").write_text(json.dumps(preprocessing, indent=1) + "\n")


def _tokenizer(directory: Path) -> CLIPTokenizer:
    if not any((directory / name).is_file() for name in TOKENIZER_FILES):  # else the library makes one of two tokens
        raise WeightsError(f"{directory} has no tokenizer: neither {' nor '.join(TOKENIZER_FILES)}")
    with reading(directory):
        return CLIPTokenizer.from_pretrained(directory)


def _origin_of_generator(tokenizer: CLIPTokenizer, text_encoder: CLIPTextModel, vae: AutoencoderKL) -> dict[str, str]:
    return origin_of_tokens(tokenizer) | {"text_encoder": fingerprint(text_encoder), "vae": fingerprint(vae)}


def _frozen(module: M) -> M:
    return module.eval().requires_grad_(False)
