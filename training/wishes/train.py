"""Teaches an adapter its user prompt from a table of groups: what a user likes, said to the U-Net in phrases.

    python -m training.wishes.train --data TABLE --out build/user_prompt --unet build/generator/dpo/unet

Three things, none of which is done twice. The family's CLIP tells which phrases of phrases.json every candidate shows
(no labels are needed). A keyword model learns from the picks which of them each profile favours. The user prompt of a
silent adapter learns to say those favours beside any prompt that leaves them open. The aligned U-Net is that of
`--stages dpo` of training.generator.train; the adapter, in the family's format, belongs on it. Tags and keyword model
are kept in build/prepared; `--out` gets picks.json (how well profiles predict them), checkpoint.pt, log.jsonl, log.png,
tensorboard/ and adapter/. The same command again resumes.

A kind of phrases is a choice: one with a single phrase is never wished for, so give "belted" its "beltless".

The log's columns: favours (squared error, in variances), unread (cross-entropy of a prompt's tokens), openings (of
which kinds it leaves open), any (of tokens at random); on profiles nobody has: text (squared error of the text states;
of the prompt's own: silent) and right (share of kinds whose favourite phrase is the keyword model's).
"""

import argparse
import hashlib
import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from contract.vocabulary import Vocabulary, VocabularyError
from training.common.errors import FeatureError, ModelError, reading
from training.common.loop import Diverged, make_run_dir
from training.common.storage import fingerprint
from training.data.groups import GroupError, GroupTensors, update_with
from training.data.load import CACHE, is_table, kept, reward_groups
from training.data.table import read_table
from training.generator.user_prompt import UserPromptRecipe, Wishing, language_of, train_user_prompt
from training.models.adaptive_network import PersonalisedAdaptiveNetwork
from training.models.family import TINY, FamilyPaths, hush_libraries
from training.models.frozen_unet import load_unet
from training.wishes.preferences import KeywordModel, fit, held_out_losses
from training.wishes.tagging import by_clip

CHANGES = {  # of the recipe, and what they are
    "steps": "optimizer steps",
    "lr": "of AdamW, after the warm-up",
    "embed_dim": "width of one feature's embedding",
    "seed": "of everything that is drawn",
}


def wishing_of(data: Path, family: FamilyPaths, out: Path) -> Wishing:
    """What a table's picks say of its users' wishes.

    Raises:
        VocabularyError: no prompt names a category of phrases.json.
        FeatureError: the table has other features than the family.
        GroupError: the picks favour nothing.
    """
    vocabulary = family.vocabulary()
    prompts = _prompts(data, family, vocabulary)
    groups = reward_groups(data, family)
    if groups.schema != family.schema():
        theirs = data / "feature_schema.json"
        raise FeatureError(f"{theirs} and {family.feature_schema} differ; an adapter is made for the family's")
    model = _keyword_model(groups, family, vocabulary, out)
    return Wishing(model, groups.schema, np.unique(groups.features, axis=0), prompts)


def check(data: Path, recipe: UserPromptRecipe, family: FamilyPaths, unet: Path) -> None:
    """Refuses what could not be trained, before long work.

    Raises:
        ModelError: names what does not fit.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ModelError("a user prompt is taught by one process; run it without torchrun")
    family.check_pipeline(("text_encoder", "tokenizer"))
    if not data.is_dir():
        raise GroupError(f"{data} is not a directory" if data.exists() else f"{data} does not exist")
    if not is_table(data):
        raise GroupError(f"{data} is no table of groups: prompts and pictures are needed as they are")
    vocabulary = family.vocabulary()
    if not any(len(kind.phrases) > 1 for kind in vocabulary.kinds[1:]):
        raise VocabularyError(f"{family.phrases}: no kind after the category has two phrases to choose from")
    language = language_of(family, vocabulary)
    PersonalisedAdaptiveNetwork.from_unet(load_unet(unet), family.schema(), recipe.embed_dim, language=language)


def _prompts(data: Path, family: FamilyPaths, vocabulary: Vocabulary) -> list[str]:
    """Those that wishes can be said beside."""
    prompts = [group.prompt for group in read_table(data, images=False)]
    understood = [prompt for prompt in prompts if vocabulary.category.name in vocabulary.asked(prompt)]
    if not understood:
        some = ", ".join(vocabulary.category.phrases[:3])
        raise VocabularyError(f"no prompt of {data} names a category of {family.phrases} ({some}, …)")
    if len(understood) < len(prompts):
        print(f"{len(prompts) - len(understood)} of {len(prompts)} prompts name no category: not taught on")
    return understood


def _keyword_model(groups: GroupTensors, family: FamilyPaths, vocabulary: Vocabulary, out: Path) -> KeywordModel:
    """The one that these picks and this CLIP made before, or a new one."""
    seen = _fingerprint_of_tags(groups, family, vocabulary)
    path = CACHE / f"keywords-{seen}-{groups.fingerprint()}.npz"
    tags = kept(CACHE / f"tags-{seen}.npy", lambda: by_clip(groups, family, vocabulary))
    if not path.exists():
        unfinished = path.with_suffix(".new.npz")
        fit(tags, groups, vocabulary).save(unfinished)
        unfinished.replace(path)
    model = KeywordModel.load(path)
    told = out / "picks.json"
    if not told.exists() or _read(told)["keywords"] != path.stem:
        unfinished = told.with_suffix(".new.json")
        unfinished.write_text(json.dumps({"keywords": path.stem} | _predicted(model, tags, groups), indent=1) + "\n")
        unfinished.replace(told)
    _tell(_read(told))
    if not model.weights.any():
        raise GroupError(f"{len(groups)} groups favour no phrase: there is nothing to teach")
    return model


def _fingerprint_of_tags(groups: GroupTensors, family: FamilyPaths, vocabulary: Vocabulary) -> str:
    """Of the pictures, and of all that decides what CLIP tells of them."""
    clip = family.clip()
    how = (groups.selected.shape, vocabulary, fingerprint(clip), family.preprocess(clip).settings)
    digest = hashlib.sha256(repr(how).encode())
    digest.update(family.reward_tokenizer().backend_tokenizer.to_str().encode())
    assert groups.images is not None  # prepared from a table
    update_with(digest, groups.images)
    return digest.hexdigest()[:16]


def _predicted(model: KeywordModel, tags: np.ndarray, groups: GroupTensors) -> dict[str, float]:
    """What the picks of held-out groups cost, by profile and whoever it is, in nats a group."""
    alike = replace(groups, features=np.zeros_like(groups.features))
    by_profile = held_out_losses(model, tags, groups)
    whoever = held_out_losses(fit(tags, alike, model.vocabulary), tags, alike)
    gain = whoever - by_profile
    return {
        "held_out_groups": len(gain), "by_profile": float(by_profile.mean()), "whoever": float(whoever.mean()),
        "gain": float(gain.mean()), "standard_error": float(gain.std() / max(1, len(gain) - 1) ** 0.5),
    }  # fmt: skip


def _read(path: Path) -> dict[str, Any]:
    with reading(path):
        found: dict[str, Any] = json.loads(path.read_text())
    return found


def _tell(found: dict[str, Any]) -> None:
    """Says whether the picks of held-out groups tell users apart."""
    gain, error = found["gain"], found["standard_error"]
    costs = f"{found['by_profile']:.3f} by profile, {found['whoever']:.3f} whoever it is"
    print(f"{found['held_out_groups']} held-out groups, in nats a group: {costs}; gain {gain:.3f} ± {error:.3f}")
    if gain < 2 * error or not gain > 0:
        print("these picks do not show that profiles tell users apart; little that is said will be personal")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="table of groups")
    parser.add_argument("--out", type=Path, required=True, help="where the run is kept; the same again resumes")
    parser.add_argument("--weights", type=Path, default=TINY, help="family with pipeline/ and reward/ (%(default)s)")
    parser.add_argument("--unet", type=Path, help="diffusers U-Net directory (default: the family's backbone)")
    for name, what in CHANGES.items():
        field = UserPromptRecipe.__dataclass_fields__[name]
        told = f"{what} (default: %(default)s)"
        parser.add_argument(f"--{name.replace('_', '-')}", type=field.type, default=field.default, help=told)
    arguments = parser.parse_args()
    hush_libraries()
    family = FamilyPaths.under(arguments.weights)
    try:
        recipe = UserPromptRecipe(**{name: getattr(arguments, name) for name in CHANGES})
        unet = arguments.unet or family.backbone_files
        make_run_dir(arguments.out)
        check(arguments.data, recipe, family, unet)
        wishing = wishing_of(arguments.data, family, arguments.out)
        adapter = train_user_prompt(recipe, wishing, family, arguments.out, unet)
    except (ModelError, Diverged, OSError) as error:
        print(f"training stopped: {error}", file=sys.stderr)
        return 1
    print(f"adapter written to {adapter}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
