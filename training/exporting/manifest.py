"""What a release says about itself: manifest.json and the files beside it.

Sizes come from the contract, the rest from the family's own files. Knows nothing about ONNX.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from training.exporting.contract import Contract
from training.exporting.errors import ContractError, ExportError
from training.exporting.release import files_under, now, sha256, source_commit
from training.models.family import FamilyPaths

DEFAULTS = {"guidance_scale": 4.0, "adapter_scale": 1.0, "num_steps": 20, "scheduler": "ddim"}
HIGHEST = {"guidance_scale": 30, "adapter_scale": 2, "num_steps": 100}  # what a request may say
SCHEDULERS = ("ddim", "dpmsolver++2m", "euler")
BETA_SCHEDULES = ("scaled_linear", "linear")
SCHEDULER_KEYS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type")


def build_manifest(
    number: int, paths: FamilyPaths, contracts: Mapping[str, Contract], models: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "release": number,
        "source_commit": source_commit(),
        "create_time": now(),
        "weights": _weights(paths),
        "models": dict(models),
        **tensor_sizes(contracts),
        "scheduler": _scheduler(paths),
        "reward_logit_scale": _reward_logit_scale(paths),
        "defaults": _defaults(paths),
    }


def release_texts(paths: FamilyPaths, contracts: Mapping[str, Contract]) -> dict[str, str]:
    """The files that services read beside the manifest, by name."""
    (tokens,) = contracts["text_encoder"].shape("input_ids")
    (reward_tokens,) = contracts["reward_text"].shape("input_ids")
    return {
        "feature_schema.json": json.dumps(paths.schema().to_json(), indent=1) + "\n",
        "phrases.json": json.dumps(paths.vocabulary().to_json(), indent=1, ensure_ascii=False) + "\n",
        "tokenizer.json": _tokenizer_document(paths.tokenizer(), tokens),
        "reward_tokenizer.json": _tokenizer_document(paths.reward_tokenizer(), reward_tokens),
    }


def tensor_sizes(contracts: Mapping[str, Contract]) -> dict[str, int]:
    """All from the contract; models that share a size must agree on it."""
    denoiser, decoder = contracts["denoiser"], contracts["vae_decoder"]
    height, width, _ = decoder.shape("image")
    channels, side, other = denoiser.shape("latents")
    tokens, text_width = denoiser.shape("text")
    if height != width or side != other:
        raise ContractError("pictures and latents must be square")
    _agree("latents", contracts, {"denoiser", "vae_decoder", "vae_encoder"})
    _agree("image", contracts, {"vae_decoder", "vae_encoder", "reward_image"})
    _agree("user", contracts, {"reward_text", "reward_image"})
    _agree("embedding", contracts, {"reward_text", "reward_image"})
    return {
        "image_size_px": height,
        "latent_channels": channels,
        "latent_size": side,
        "text_tokens": tokens,
        "text_width": text_width,
        "generator_user_width": denoiser.shape("user")[0],
        "choice_width": denoiser.shape("choice_noise")[0],
        "feature_slots": contracts["user_encoder"].shape("features")[0],
        "reward_user_width": contracts["reward_text"].shape("user")[0],
        "reward_width": contracts["reward_text"].shape("embedding")[0],
    }


def _agree(tensor: str, contracts: Mapping[str, Contract], models: set[str]) -> None:
    shapes = {model: contracts[model].shape(tensor) for model in sorted(models)}
    if len(set(shapes.values())) != 1:
        raise ContractError(f"config.pbtxt files disagree on {tensor}: {shapes}")


def _weights(paths: FamilyPaths) -> dict[str, str]:
    """What the release is made of; `backbone` is the U-Net that draws, wherever it lies."""
    roots = {name: getattr(paths, name) for name in ("pipeline", "reward", "perfusion_rm", "adapter")}
    roots["backbone"] = paths.backbone_files
    return {
        f"{name}/{path.relative_to(root)}": sha256(path)
        for name, root in roots.items()
        for path in files_under([root])
        if path.suffix in (".safetensors", ".bin")
        and (name == "backbone" or paths.pipeline / "unet" not in path.parents)
    }


def _scheduler(paths: FamilyPaths) -> dict[str, Any]:
    config = paths.noise_scheduler().config
    if config.beta_schedule not in BETA_SCHEDULES:
        raise ExportError(f"the noise schedule is {config.beta_schedule!r}; services know {BETA_SCHEDULES}")
    return {key: config[key] for key in SCHEDULER_KEYS}


def _reward_logit_scale(paths: FamilyPaths) -> float:
    """exp(logit_scale), read without building the model."""
    for path in files_under([paths.reward]):
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as weights:
                if "logit_scale" in weights.keys():  # noqa: SIM118  (not a mapping)
                    return float(weights.get_tensor("logit_scale").double().exp())
    return float(paths.clip().logit_scale.double().exp())


def _defaults(paths: FamilyPaths) -> dict[str, Any]:
    """Generation's defaults; a family may bring its own in defaults.json."""
    own = _read_json(paths.defaults, dict) if paths.defaults.is_file() else {}
    if unknown := set(own) - set(DEFAULTS):
        raise ExportError(f"{paths.defaults}: unknown settings {sorted(unknown)}")
    if own.get("scheduler", SCHEDULERS[0]) not in SCHEDULERS:
        raise ExportError(f"{paths.defaults}: scheduler is {own['scheduler']!r}, not one of {SCHEDULERS}")
    for name, highest in HIGHEST.items():
        value, kind = own.get(name, DEFAULTS[name]), int if name == "num_steps" else (int, float)
        lowest = 1 if name == "num_steps" else 0
        if not isinstance(value, kind) or isinstance(value, bool) or not lowest <= value <= highest:
            raise ExportError(f"{paths.defaults}: {name} is {value!r}, not a number from {lowest} to {highest}")
    return DEFAULTS | own


def _read_json(path: Path, kind: type) -> Any:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ExportError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, kind):
        raise ExportError(f"{path} holds a {type(value).__name__}, not a {kind.__name__}")
    return value


def _tokenizer_document(tokenizer: Any, length: int) -> str:
    """One self-contained tokenizer.json: cuts and pads to the contract's length by itself."""
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(length)
    backend.enable_padding(length=length, pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token)
    document: str = backend.to_str(pretty=True)
    return document
