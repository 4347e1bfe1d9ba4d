"""A release on disk, small enough to read at a glance: what the services need to know of one, without its models."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, models, pre_tokenizers, processors

IMAGE_SIZE_PX, USER_WIDTH, CHOICE_WIDTH, REWARD_WIDTH, TEXT_TOKENS, LOGIT_SCALE = 16, 4, 3, 8, 12, 50.0

FEATURES: dict[str, Any] = {
    "version": 1,
    "features": [
        {"name": "style", "kind": "categorical", "vocabulary": ["minimalist", "luxury", "boho"]},
        {"name": "audience", "kind": "multi", "vocabulary": ["teens", "women", "men", "kids"], "max_values": 3},
        {"name": "years_open", "kind": "numeric", "min": 0, "max": 50, "boundaries": [1, 3, 6]},
    ],
}


def write_release(model_repository: Path, number: int, *, current: bool = True) -> None:
    """Adds a release, by default the one in service."""
    directory = model_repository / "releases" / str(number)
    directory.mkdir(parents=True)
    (directory / "manifest.json").write_text(json.dumps(_manifest(number)))
    (directory / "feature_schema.json").write_text(json.dumps(FEATURES))
    (directory / "phrases.json").write_text(json.dumps([{"kind": "sleeve", "phrases": ["sleeveless"]}]))
    for name in ("tokenizer.json", "reward_tokenizer.json"):
        _tokenizer().save(str(directory / name))
    if current:
        (model_repository / "releases" / "current").write_text(str(number))


def _manifest(number: int) -> dict[str, Any]:
    betas = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012}
    return {
        "release": number,
        "source_commit": "0" * 40,
        "image_size_px": IMAGE_SIZE_PX,
        "latent_channels": 4,
        "latent_size": 2,
        "text_tokens": TEXT_TOKENS,
        "text_width": 8,
        "generator_user_width": USER_WIDTH,
        "choice_width": CHOICE_WIDTH,
        "reward_user_width": USER_WIDTH,
        "reward_width": REWARD_WIDTH,
        "scheduler": {**betas, "beta_schedule": "scaled_linear", "prediction_type": "epsilon"},
        "reward_logit_scale": LOGIT_SCALE,
        "defaults": {"guidance_scale": 4.0, "adapter_scale": 1.0, "num_steps": 20, "scheduler": "ddim"},
    }


def _tokenizer() -> Tokenizer:
    words = ["<|startoftext|>", "<|endoftext|>", "[unk]", "red", "dress", "sleeveless", ","]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[unk]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|startoftext|> $A <|endoftext|>", special_tokens=[("<|startoftext|>", 0), ("<|endoftext|>", 1)]
    )
    return tokenizer
