"""Lists everything that is wrong with a family of models, before any training or export: part, reason and remedy.

    python -m training.models.check_family FOLDER [FOLDER …]

A family is one folder; what is missing or does not fit together is found from the configuration files, and then every
part is loaded as trainings load it, and compared with what its origin.json says that it was trained with
(`--no-weights` leaves both out, and takes a second).

    pipeline/        unet, vae, text_encoder, tokenizer, scheduler: Stable Diffusion in diffusers' format
    reward/          a transformers CLIPModel with tokenizer/ and preprocessor_config.json
    feature_schema.json, phrases.json
    perfusion_rm/    trained by training.reward.train; an export needs it
    backbone/, adapter/, preferences/, defaults.json    optional

The exit status is 1 if anything is to be mended. Knows a family's files; nothing about how its parts are trained.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from contract.errors import InputError
from contract.feature_schema import FeatureSchema
from contract.vocabulary import Vocabulary
from training.common.commands import parser_of
from training.common.errors import reading
from training.common.problems import Findings, Problem

TOKENS = 77  # ids of a prompt, which the served models fix
LEGACY_END = 2  # an eos_token_id in published CLIP configurations that stands for "the highest id"
WEIGHTS = ("*.safetensors", "*.bin")
NEEDED = {  # each part's files, of which one of each group is needed
    "pipeline/unet": (("config.json",), WEIGHTS),
    "pipeline/vae": (("config.json",), WEIGHTS),
    "pipeline/text_encoder": (("config.json",), WEIGHTS),
    "pipeline/tokenizer": (("tokenizer.json", "vocab.json"),),
    "pipeline/scheduler": (("scheduler_config.json",),),
    "reward": (("config.json",), WEIGHTS, ("preprocessor_config.json",)),
}
OPTIONAL = {
    "backbone": (("config.json",), WEIGHTS),
    "adapter": (("config.json",), WEIGHTS),
    "preferences": (("config.json",), WEIGHTS),
    "perfusion_rm": (("config.json",), WEIGHTS),
}
FILES = ("feature_schema.json", "phrases.json")
DEFAULTS = {"guidance_scale", "adapter_scale", "num_steps", "sampler"}
PUBLISHED = "copy it from the published model, in diffusers' or transformers' format (docs/training.md)"


@dataclass(frozen=True)
class Configured:
    """A family's configuration files; {} for one that is missing or damaged, which is a finding of its own."""

    root: Path

    def read(self, name: str) -> dict[str, Any]:
        """A JSON object of the family."""
        try:
            found = json.loads((self.root / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def vocabulary_of(self, folder: str) -> dict[str, int]:
        """A tokenizer's tokens."""
        whole, plain = self.root / folder / "tokenizer.json", self.root / folder / "vocab.json"
        try:
            return (
                dict(Tokenizer.from_file(str(whole)).get_vocab())
                if whole.is_file()
                else self.read(f"{folder}/{plain.name}")
            )
        except Exception:  # the library raises no narrower one
            return {}


def check_files(root: Path) -> Iterator[Problem]:
    """What is missing or cannot be read."""
    if not root.is_dir():
        remedy = "give the folder of a family; training/weights/tiny is one"
        yield Problem(
            "error", "there is no family", str(root), remedy, "is not a folder" if root.exists() else "does not exist"
        )
        return
    for part, groups in NEEDED.items():
        yield from _missing(root, part, groups, "error")
    if not any(
        (root / part / name).is_file()
        for part in ("reward/tokenizer", "reward")
        for name in NEEDED["pipeline/tokenizer"][0]
    ):
        yield Problem(
            "error", "a part is missing", "reward/tokenizer", PUBLISHED, "neither tokenizer.json nor vocab.json"
        )
    for part, groups in OPTIONAL.items():
        if (root / part).exists():
            yield from _missing(root, part, groups, "error")
    if not (root / "perfusion_rm").exists():
        remedy = "python -m training.reward.train, then copy RUN/reward/perfusion_rm; trainings need none"
        yield Problem("note", "a part is missing that an export needs", "perfusion_rm", remedy)
    for name in FILES:
        if not (root / name).is_file():
            remedy = f"write one; training/weights/tiny/{name} shows the format"
            yield Problem("error", "a part is missing", name, _meant(root, name) + remedy)
    for path in sorted(root.rglob("*.json")):
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            yield Problem(
                "error", "a file is not JSON", str(path.relative_to(root)), "copy or write it again", str(error)
            )


def _missing(root: Path, part: str, groups: tuple[tuple[str, ...], ...], weight: Any) -> Iterator[Problem]:
    folder = root / part
    if not folder.is_dir():
        yield Problem(weight, "a part is missing", part, _meant(folder.parent, folder.name) + PUBLISHED)
        return
    for names in groups:
        if not any(any(folder.glob(name)) for name in names):
            yield Problem(weight, "a part lacks a file", part, PUBLISHED, f"no {' or '.join(names)}")


def _meant(folder: Path, name: str) -> str:
    beside = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    near = get_close_matches(name, beside, 1, 0.6)
    return f"did you mean {near[0]!r}? rename it to {name!r}; or " if near else ""


def check_sizes(root: Path) -> Iterator[Problem]:
    """What does not fit together, as far as the files are there."""
    told = Configured(root)
    unet, vae, text = (told.read(f"pipeline/{part}/config.json") for part in ("unet", "vae", "text_encoder"))
    clip = told.read("reward/config.json")
    for one, other in _agreeing(unet, vae, text, told.read("backbone/config.json")):
        (where, value), (beside, wanted) = one, other
        if value is not None and wanted is not None and value != wanted:
            remedy = "take both from one family, or train the one for the other"
            yield Problem("error", "sizes do not agree", where, remedy, f"is {value}, and {beside} is {wanted}")
    yield from _of_scheduler(told.read("pipeline/scheduler/scheduler_config.json"))
    reward_tokens = "reward/tokenizer" if (root / "reward/tokenizer").is_dir() else "reward"
    yield from _of_tokens(told, "pipeline/tokenizer", "pipeline/text_encoder", text)
    yield from _of_tokens(told, reward_tokens, "reward", clip.get("text_config") or {})
    one, other = told.vocabulary_of("pipeline/tokenizer"), told.vocabulary_of(reward_tokens)
    if len(one) == len(other) and one != other:
        odd = next(token for token in one if one[token] != other.get(token))
        what = f"{odd!r} is {one[odd]} in pipeline/tokenizer and {other.get(odd, 'no token')} in {reward_tokens}"
        remedy = "right only if each text model was trained with its own; sizes cannot tell"
        yield Problem("note", "two tokenizers of one size that differ", reward_tokens, remedy, what)
    side = (clip.get("vision_config") or {}).get("image_size")
    crop = told.read("reward/preprocessor_config.json").get("crop_size")
    crop = crop.get("height") if isinstance(crop, dict) else crop
    if side and crop and side != crop:
        what = f"crop_size is {crop}, and reward image_size is {side}"
        yield Problem(
            "error", "sizes do not agree", "reward/preprocessor_config.json", "take both from one model", what
        )


Setting = tuple[str, Any]  # its name and its value


def _agreeing(
    unet: dict[str, Any], vae: dict[str, Any], text: dict[str, Any], backbone: dict[str, Any]
) -> list[tuple[Setting, Setting]]:
    """Settings that must be the same."""

    def of(part: str, config: dict[str, Any], key: str, factor: int = 1) -> Setting:
        value = config.get(key)
        name = f"{part} {key}" + (f" · {factor}" if factor > 1 else "")
        return name, value * factor if isinstance(value, int) else value

    shrinks = 2 ** (len(vae.get("block_out_channels", [0])) - 1)
    same = ("sample_size", "in_channels", "cross_attention_dim", "block_out_channels")
    return [
        (of("pipeline/unet", unet, "cross_attention_dim"), of("pipeline/text_encoder", text, "hidden_size")),
        (of("pipeline/unet", unet, "in_channels"), of("pipeline/vae", vae, "latent_channels")),
        (of("pipeline/unet", unet, "out_channels"), of("pipeline/unet", unet, "in_channels")),
        (of("pipeline/unet", unet, "sample_size", shrinks), of("pipeline/vae", vae, "sample_size")),
        *((of("backbone", backbone, key), of("pipeline/unet", unet, key)) for key in same),
    ]


def _of_scheduler(config: dict[str, Any]) -> Iterator[Problem]:
    for key, wanted in (("prediction_type", "epsilon"), ("num_train_timesteps", 1000)):
        if config and config.get(key, wanted) != wanted:
            remedy = f"only {wanted!r} is supported: choose a U-Net that was trained so"
            yield Problem(
                "error",
                "the noise schedule is not supported",
                "pipeline/scheduler",
                remedy,
                f"{key} is {config[key]!r}",
            )


def _of_tokens(told: Configured, tokenizer: str, model: str, config: dict[str, Any]) -> Iterator[Problem]:
    tokens, known, read = told.vocabulary_of(tokenizer), config.get("vocab_size"), config.get("max_position_embeddings")
    remedy = f"copy the tokenizer that {model} was trained with"
    if tokens and known and max(tokens.values()) >= known:
        what = f"has ids up to {max(tokens.values())}, {model} knows {known} tokens"
        yield Problem("error", "a tokenizer of another family", tokenizer, remedy, what)
    elif tokens and known and len(tokens) < known:
        what = f"has {len(tokens)} tokens, {model} knows {known}"
        yield Problem("error", "a tokenizer of another family", tokenizer, remedy, what)
    end, ends = tokens.get("<|endoftext|>"), config.get("eos_token_id")
    if end is not None and ends not in (None, LEGACY_END, end):
        what = f"ends a prompt with {end}, {model} expects {ends}"
        yield Problem("error", "a tokenizer of another family", tokenizer, remedy, what)
    if read and read < TOKENS:
        what = f"reads {read} tokens, prompts have {TOKENS}"
        yield Problem("error", "sizes do not agree", model, "take a text model of 77 tokens, as CLIP's", what)


def check_texts(root: Path) -> Iterator[Problem]:
    """The feature schema, the phrases and the defaults, and whether the trained parts were trained with them."""
    told, schema, vocabulary = Configured(root), None, None
    try:
        schema = FeatureSchema.read(root / FILES[0]) if (root / FILES[0]).is_file() else None
    except InputError as error:
        yield Problem("error", "the feature schema cannot be used", FILES[0], "see training/weights/tiny", str(error))
    try:
        vocabulary = Vocabulary.read(root / FILES[1]) if (root / FILES[1]).is_file() else None
    except InputError as error:
        yield Problem("error", "the phrases cannot be used", FILES[1], "see training/weights/tiny", str(error))
    if unknown := sorted(told.read("defaults.json").keys() - DEFAULTS):
        known = f"known are {', '.join(sorted(DEFAULTS))}"
        yield Problem("error", "a default that nothing reads", "defaults.json", known, ", ".join(unknown))
    for part in ("perfusion_rm", "adapter", "preferences"):
        config = told.read(f"{part}/config.json")
        if schema is not None and "schema" in config:
            differs = FeatureSchema.from_json(config["schema"]).difference(schema)
            if differs:
                remedy = "train the part again, or give the feature_schema.json that it was trained with"
                yield Problem("error", "a part was trained with another feature schema", part, remedy, differs)
        if (
            vocabulary is not None
            and "vocabulary" in config
            and Vocabulary.from_json(config["vocabulary"]) != vocabulary
        ):
            yield Problem(
                "error", "a part was fitted with another vocabulary", part, "python -m training.wishes.train again"
            )


def check_weights(root: Path) -> Iterator[Problem]:
    """Every part loaded as trainings do, and each trained part on its backbone."""
    from training.common.storage import read_config  # torch takes seconds to load
    from training.models.family import FamilyPaths, hush_libraries
    from training.models.frozen_unet import check_topology

    hush_libraries()
    family = FamilyPaths.under(root)
    parts = {
        "pipeline/unet": lambda: check_topology(family.unet()),
        "pipeline/vae": family.vae,
        "pipeline/text_encoder": family.text_encoder,
        "pipeline/tokenizer": family.tokenizer,
        "reward": lambda: family.preprocess(family.clip()),
        "reward/tokenizer": family.reward_tokenizer,
        "backbone": family.backbone_unet,
        "adapter": lambda: family.perfusion(family.backbone_unet()),
        "perfusion_rm": lambda: family.reward_model() if family.perfusion_rm.exists() else None,
        "preferences": lambda: read_config(family.preferences) if family.preferences.exists() else None,
        "preferences/history.json": family.population,
        "origin.json": family.check_origins,
    }
    for name, load in parts.items():
        try:
            with reading(root / name):
                load()
        except InputError as error:
            remedy = "copy the part again, or train it on this family"
            yield Problem("error", "a part cannot be used", name, remedy, str(error))


def check_family(root: Path, findings: Findings, *, weights: bool = True) -> None:
    """Adds everything that is wrong with a family to the findings; weights are loaded only where their files fit."""
    for check in (check_files, check_sizes, check_texts):
        findings.add(check(root))
    if weights and not findings.total("error"):
        findings.add(check_weights(root))


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("families", nargs="+", type=Path, metavar="FOLDER", help="families")
    parser.add_argument("--no-weights", action="store_true", help="read configuration files only")
    return parser.parse_args()


def main() -> int:
    arguments, failed = parse_arguments(), False
    for root in arguments.families:
        findings = Findings(examples=100)
        check_family(root, findings, weights=not arguments.no_weights)
        print("\n".join([*findings.lines(), f"{root}: {findings.summary()}"]))
        failed |= findings.total("error") > 0
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
