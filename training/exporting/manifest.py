"""A release's manifest and the texts beside it, from a family and the tensor contract.

The used part of the padded widths follows from the family; a family that exceeds them is refused. Knows files and
sizes; nothing about ONNX.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from safetensors import safe_open

from contract import release
from contract.errors import ManifestError
from contract.feature_schema import FeatureSchema
from contract.history import HISTORY
from contract.release import Manifest, ModelFiles, NoiseSchedule, Sizes, SizesInUse
from contract.repository import sha256
from contract.vocabulary import Vocabulary
from training.common.errors import reading
from training.common.storage import read_config
from training.exporting.errors import ContractError, ExportError
from training.exporting.release import files_under, source_commit
from training.exporting.tensor_contract import Contract
from training.models.family import FamilyPaths

SCHEDULE_KEYS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type")


def build_manifest(
    number: int, paths: FamilyPaths, contracts: Mapping[str, Contract], models: Mapping[str, ModelFiles]
) -> Manifest:
    """The manifest of this family as release `number`.

    Raises:
        ContractError: the family does not fit the tensor contract.
        ExportError: services could not serve it.
    """
    sizes, in_use = tensor_sizes(contracts), sizes_in_use(paths)
    for name, used in vars(in_use).items():
        if used > (room := getattr(sizes, name)):
            raise ContractError(
                f"{name}: this family uses {used}, config.pbtxt has room for {room}; "
                "it needs a repository of its own (training.exporting.write_contracts), and a deployment on it"
            )
    return Manifest(
        release=number,
        source_commit=source_commit(),
        create_time=datetime.now(UTC).isoformat(timespec="seconds"),
        weights=weights_of(paths),
        models=dict(models),
        sizes=sizes,
        in_use=in_use,
        noise_schedule=_noise_schedule(paths),
        reward_logit_scale=_reward_logit_scale(paths),
        defaults=paths.request_defaults(),
        trained_on=trained_on(paths),
        distilled={} if (distilled := paths.distilled()) is None else asdict(distilled),
    )


def release_texts(paths: FamilyPaths, contracts: Mapping[str, Contract]) -> dict[str, str]:
    """The files that services read beside the manifest, by name."""
    (tokens,) = contracts["text_encoder"].shape("input_ids")
    (reward_tokens,) = contracts["reward_text"].shape("input_ids")
    population = paths.population()
    return {
        release.FEATURE_SCHEMA: paths.schema().to_text(),
        release.PHRASES: paths.vocabulary().to_text(),
        release.TOKENIZER: _tokenizer_document(paths.tokenizer(), tokens),
        release.REWARD_TOKENIZER: _tokenizer_document(paths.reward_tokenizer(), reward_tokens),
    } | ({} if population is None else {HISTORY: population.to_text()})


def tensor_sizes(contracts: Mapping[str, Contract]) -> Sizes:
    """All from the contract; models that share a size must agree on it."""
    denoiser, decoder, users = contracts["denoiser"], contracts["vae_decoder"], contracts["user_encoder"]
    height, width, _ = decoder.shape("image")
    channels, side, other = denoiser.shape("latents")
    tokens, text_width = denoiser.shape("text")
    if height != width or side != other:
        raise ContractError("pictures and latents must be square")
    for tensor, models in (
        ("latents", ("denoiser", "vae_decoder", "vae_encoder")),
        ("image", ("vae_decoder", "vae_encoder", "reward_image")),
        ("user", ("reward_text", "reward_image")),
        ("embedding", ("reward_text", "reward_image")),
    ):
        _agree(tensor, {model: contracts[model].shape(tensor) for model in models})
    reward_user, generator_user = contracts["reward_text"].shape("user"), denoiser.shape("user")
    _agree("the reward model's user", {"user_encoder": users.shape("reward_text_user"), "reward_text": reward_user})
    _agree("the reward model's user", {"user_encoder": users.shape("reward_image_user"), "reward_image": reward_user})
    _agree("the generator's user", {"user_encoder": users.shape("generator_user"), "denoiser": generator_user})
    return Sizes(
        image_size_px=height,
        latent_channels=channels,
        latent_size=side,
        text_tokens=tokens,
        text_width=text_width,
        feature_slots=users.shape("features")[0],
        phrases=users.shape("favours")[0],
        generator_user_width=generator_user[0],
        reward_user_width=reward_user[0],
        reward_width=contracts["reward_text"].shape("embedding")[0],
    )


def sizes_in_use(paths: FamilyPaths) -> SizesInUse:
    """How much of the padded widths a family uses, from its configuration files.

    Raises:
        ExportError: a personal part was trained with another feature schema or vocabulary than the family's.
    """
    schema, vocabulary = paths.schema(), paths.vocabulary()
    plugin = read_config(paths.perfusion_rm)
    adapter, preferences = (read_config(p) if p.exists() else None for p in (paths.adapter, paths.preferences))
    personal = ((paths.perfusion_rm, plugin), (paths.adapter, adapter), (paths.preferences, preferences))
    for where, config in personal:
        with reading(where / "config.json"):
            if config is not None and FeatureSchema.from_json(config["schema"]) != schema:
                raise ExportError(f"{where} was trained with another feature schema than {paths.feature_schema}")
    with reading(paths.preferences / "config.json"):
        if preferences is not None and Vocabulary.from_json(preferences["vocabulary"]) != vocabulary:
            raise ExportError(f"{paths.preferences} was fitted with another vocabulary than {paths.phrases}")
    n = len(schema.features)
    return SizesInUse(
        feature_slots=schema.n_slots,
        phrases=len(vocabulary.phrases),
        generator_user_width=0 if adapter is None else n * int(adapter["embed_dim"]),
        reward_user_width=n * int(plugin["plugin"]["embed_dim"]),
    )


def _agree(tensor: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    if len(set(shapes.values())) != 1:
        raise ContractError(f"config.pbtxt files disagree on {tensor}: {dict(shapes)}")


def weights_of(paths: FamilyPaths) -> dict[str, str]:
    """The release's sources; `backbone` is the U-Net that draws, from any directory."""
    roots = {name: getattr(paths, name) for name in ("pipeline", "reward", "perfusion_rm", "adapter", "preferences")}
    roots["backbone"] = paths.backbone_files
    return {
        f"{name}/{path.relative_to(root)}": sha256(path)
        for name, root in roots.items()
        if root.exists()
        for path in files_under([root])
        if path.suffix in (".safetensors", ".bin")
        and (name == "backbone" or paths.pipeline / "unet" not in path.parents)
    }


def _noise_schedule(paths: FamilyPaths) -> NoiseSchedule:
    config = paths.noise_scheduler().config
    try:
        return NoiseSchedule(**{key: config[key] for key in SCHEDULE_KEYS})
    except ManifestError as error:
        raise ExportError(f"{paths.pipeline / 'scheduler'}: {error}") from error


def _reward_logit_scale(paths: FamilyPaths) -> float:
    """exp(logit_scale), read without building the model."""
    for path in files_under([paths.reward]):
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as weights:
                if "logit_scale" in weights.keys():  # noqa: SIM118  (not a mapping)
                    return float(weights.get_tensor("logit_scale").double().exp())
    return float(paths.clip().logit_scale.double().exp())


def trained_on(paths: FamilyPaths) -> dict[str, str]:
    """The table of picks and its version that a retraining made the family from; nothing for any other family.

    Raises:
        ExportError: retraining.json does not say it.
    """
    if not paths.retraining.is_file():
        return {}
    record = _read_json(paths.retraining)
    version = record.get("table_digest") if record.get("table_version") is None else record["table_version"]
    if not record.get("table") or version is None:
        raise ExportError(f"{paths.retraining} does not say which table, and which version of it, it is trained on")
    return {"table": str(record["table"]), "version": str(version)}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise ExportError(f"{path} holds a {type(value).__name__}, not a dict")
    return value


def _tokenizer_document(tokenizer: Any, length: int) -> str:
    """One self-contained tokenizer.json that itself cuts and pads to the contract's length."""
    backend = tokenizer.backend_tokenizer
    backend.enable_truncation(length)
    backend.enable_padding(length=length, pad_id=tokenizer.pad_token_id, pad_token=tokenizer.pad_token)
    document: str = backend.to_str(pretty=True)
    return document
