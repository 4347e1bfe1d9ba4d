"""Every reward model by its name: how it is built, its loss, and how it is saved.

Knows the networks and the objectives; no data, no loop.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import BlipTextConfig, BlipVisionConfig, CLIPModel, CLIPTokenizer

from contract.feature_schema import FeatureSchema
from training.common.errors import WeightsError
from training.common.objectives import pairwise_cross_entropy, rating_error, reward_cross_entropy
from training.common.reports import write_report
from training.common.storage import check_origin, load_pretrained, origin_of, read_config, write_origin
from training.models.reward_model import PerFusionRM
from training.models.tokens import origin_of_tokens
from training.reward.baselines.aesthetics import Aesthetics
from training.reward.baselines.checkpoint import fill, read_checkpoint
from training.reward.baselines.image_reward import BlipShape, ImageReward
from training.reward.baselines.open_clip_scores import OpenClipScore, from_transformers, unlock
from training.reward.baselines.pickscore import PickScore
from training.reward.recipes import VARIANTS, Model, RewardRecipe

Objective = Callable[[Tensor, Tensor, Tensor], Tensor]  # (scores, selected, present), each (B, K) → (B,)

OBJECTIVES: Mapping[Model, Objective] = {
    **dict.fromkeys(VARIANTS, reward_cross_entropy),
    "aesthetics": rating_error,
    "clip_h": reward_cross_entropy,  # only measured: none of its parameters train
    "imagereward": pairwise_cross_entropy,
    "hpsv1": reward_cross_entropy,
    "hpsv2": partial(pairwise_cross_entropy, ties=True),
    "pickscore": partial(pairwise_cross_entropy, ties=True),
}


@dataclass(frozen=True)
class Starts:
    """The models that trainings start from; each reward model needs only its own."""

    clip: CLIPModel
    blip: ImageReward | None = None
    tokenizer: CLIPTokenizer | None = None  # whose ids they read

    def origin(self) -> dict[str, str]:
        """What a model that starts here is trained with, for origin.json."""
        return origin_of(self.clip) | (origin_of_tokens(self.tokenizer) if self.tokenizer else {})


def build(recipe: RewardRecipe, starts: Starts, schema: FeatureSchema | None) -> nn.Module:
    """The untrained model (pixels, input_ids, features) → (B, K); parameters that train have requires_grad.

    Args:
        schema: of the profiles; the baselines need none.

    Raises:
        WeightsError: ImageReward without a BLIP to start from, or PerFusionRM without a schema.
    """
    if recipe.model in VARIANTS:
        if schema is None:
            raise WeightsError(f"{recipe.model} reads profiles; no feature schema was given")
        return PerFusionRM(starts.clip, schema, recipe.config())
    if recipe.model == "aesthetics":
        return Aesthetics(starts.clip)
    if recipe.model == "pickscore":
        return PickScore(starts.clip)
    if recipe.model == "imagereward":
        return _image_reward(starts.blip, starts.clip)
    clip = from_transformers(starts.clip)
    if recipe.model == "hpsv1":
        clip.requires_grad_(True)
        clip.logit_scale.requires_grad_(False)
    elif recipe.model == "hpsv2":
        unlock(clip, recipe.unlocked_vision, recipe.unlocked_text)
    else:
        clip.requires_grad_(False)
    return OpenClipScore(clip)


def _image_reward(start: ImageReward | None, clip: CLIPModel) -> ImageReward:
    """The public code freezes the first 70 % of both towers' layers; the head always trains."""
    if start is None:
        raise WeightsError("imagereward starts from a BLIP; none was given")
    known, used = start.text.config.vocab_size, clip.config.text_config.vocab_size
    if known < used:
        raise WeightsError(f"the BLIP knows {known} tokens, and the family's tokenizer has {used}: train it on those")
    towers = ((start.vision.encoder.layers, start.vision.embeddings), (start.text.encoder.layer, start.text.embeddings))
    for layers, embeddings in towers:
        embeddings.requires_grad_(False)
        layers[: int(0.7 * len(layers))].requires_grad_(False)
    return start


def trained(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that train, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def save(model: nn.Module, directory: Path, origin: Mapping[str, str] | None = None) -> None:
    """PerFusionRM: plug-ins in the family's format; PickScore: a `CLIPModel`; others: a state dict.

    `origin` is that of what its training started from (Starts), by whose tokens and pixels it reads.
    """
    directory.mkdir(parents=True, exist_ok=True)
    if isinstance(model, PerFusionRM):
        model.save(directory)
    elif isinstance(model, PickScore):
        model.clip.save_pretrained(directory)
    else:
        if isinstance(model, ImageReward):
            towers = {"vision": model.vision.config.to_dict(), "text": model.text.config.to_dict()}
            write_report(directory / "config.json", towers | {"end_id": model.end_id})
        save_file(
            {name: value.contiguous() for name, value in model.state_dict().items()}, directory / "model.safetensors"
        )
    if origin is not None:
        write_origin(directory, origin)


def load(model: Model, path: Path | None, starts: Starts, schema: FeatureSchema | None = None) -> nn.Module:
    """The model that `save` wrote to `path`; None: the model at the start of its training.

    `schema`, if given, must be the one that PerFusionRM was trained with.

    Raises:
        WeightsError: the files do not belong to this model, or it was trained in a family of another CLIP.
    """
    if path is not None:
        _check_there(path, model)
        check_origin(path, starts.origin())
    if path is not None and model in VARIANTS:
        return PerFusionRM.load(path, starts.clip, schema)
    if path is not None and model == "pickscore":
        return PickScore(load_pretrained(CLIPModel, path))
    if path is not None and model == "imagereward":
        starts = replace(starts, blip=_blip_like(path))
    untrained = build(RewardRecipe(model, unlocked_vision=0, unlocked_text=0), starts, schema)
    if path is not None:
        fill(untrained, read_checkpoint(path / "model.safetensors"), path)
    return untrained


def _check_there(path: Path, model: Model) -> None:
    if not path.is_dir():
        raise WeightsError(f"{path} is missing: {path.parent} holds no trained {model}")


def _blip_like(path: Path) -> ImageReward:
    """An untrained BLIP of the shape that was saved."""
    config = read_config(path)
    shape = BlipShape(BlipVisionConfig(**config["vision"]), BlipTextConfig(**config["text"]))
    return ImageReward(shape, config["end_id"])


def read_blip(path: Path) -> ImageReward:
    """A BLIP to start from: a published ImageReward.pt, or a directory that `save` wrote.

    Raises:
        WeightsError: neither.
    """
    if not path.is_dir():
        return ImageReward.from_published(path)
    blip = _blip_like(path)
    fill(blip, read_checkpoint(path / "model.safetensors"), path)
    return blip


def load_blip(path: Path, untrained: ImageReward) -> ImageReward:
    """A pre-trained BLIP with its head, saved by `save`."""
    untrained.load_state_dict(load_file(path / "model.safetensors"))
    return untrained
