"""Teaches an adapter its user prompt from a table of groups: what a user likes, said to the U-Net in phrases.

    python -m training.train_user_prompt --data TABLE --out build/user_prompt --unet build/generator/dpo/unet

Three things, each kept, so that the same command resumes. The family's CLIP tells which phrases of phrases.json every
candidate shows (no labels are needed). A keyword model learns from the picks which of them each profile favours. The
user prompt of a silent adapter learns to say those favours beside any prompt that leaves them open. The aligned U-Net
is that of `--stages dpo` of training.train_generator; the adapter, in the family's format, belongs on it.

`--out` gets keywords.npz, checkpoint.pt, log.jsonl, log.png, tensorboard/ and adapter/. The log's columns: favours
(squared error, in variances), unread (cross-entropy of a prompt's tokens), openings (of which kinds it leaves open),
any (of tokens at random); on profiles nobody has: text (squared error of the text states; of the prompt's own: silent)
and right (share of kinds whose favourite phrase is the keyword model's).
"""

import argparse
import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from training.data.groups import GroupError, GroupTensors, update_with
from training.data.load import is_table, reward_groups
from training.data.table import read_table
from training.family import TINY, FamilyPaths, hush_libraries
from training.generator.user_prompt import UserPromptRecipe, Wishing, train_user_prompt
from training.keywords import KeywordModel, fit, held_out_loss
from training.loop import Diverged, make_run_dir
from training.models.errors import ModelError
from training.models.storage import fingerprint
from training.tagging import by_clip
from training.vocabulary import Vocabulary, VocabularyError

CHANGES = ("steps", "lr", "embed_dim", "seed")


def wishing_of(data: Path, family: FamilyPaths, out: Path) -> Wishing:
    """What a table's picks say of its users' wishes; the keyword model is kept in `out`.

    Raises:
        VocabularyError: no prompt names a category of phrases.json, or there is nothing to wish for.
    """
    if not is_table(data):
        raise GroupError(f"{data} is no table of groups: prompts and pictures are needed as they are")
    vocabulary = family.vocabulary()
    prompts = _prompts(data, vocabulary)
    groups = reward_groups(data, family)
    model = _keyword_model(groups, family, vocabulary, out)
    return Wishing(model, groups.schema, np.unique(groups.features, axis=0), prompts)


def _prompts(data: Path, vocabulary: Vocabulary) -> list[str]:
    """Those that wishes can be said beside."""
    if len(vocabulary.kinds) < 2:
        raise VocabularyError("phrases.json has one kind, the category: there is nothing to wish for")
    prompts = [group.prompt for group in read_table(data, images=False)]
    understood = [prompt for prompt in prompts if vocabulary.category.name in vocabulary.asked(prompt)]
    if not understood:
        some = ", ".join(vocabulary.category.phrases[:3])
        raise VocabularyError(f"no prompt of {data} names a category of phrases.json ({some}, …)")
    if len(understood) < len(prompts):
        print(f"{len(prompts) - len(understood)} of {len(prompts)} prompts name no category: not taught on")
    return understood


def _keyword_model(groups: GroupTensors, family: FamilyPaths, vocabulary: Vocabulary, out: Path) -> KeywordModel:
    """The one in `out`, if these groups and this CLIP made it, or a new one."""
    path, made_with = out / "keywords.npz", _made_with(groups, family, vocabulary)
    stamp = path.with_suffix(".made_with")
    if path.exists() and stamp.exists() and stamp.read_text() == made_with:
        return KeywordModel.load(path)
    tags = by_clip(groups, family, vocabulary)
    model = fit(tags, groups, vocabulary)
    _tell(model, tags, groups)
    model.save(path)
    stamp.write_text(made_with)
    return model


def _tell(model: KeywordModel, tags: np.ndarray, groups: GroupTensors) -> None:
    """Says whether the picks tell users apart, on groups that the model did not see."""
    alike = replace(groups, features=np.zeros_like(groups.features))
    by_profile = held_out_loss(model, tags, groups)
    whoever = held_out_loss(fit(tags, alike, model.vocabulary), tags, alike)
    chance = held_out_loss(replace(model, weights=model.weights * 0), tags, groups)
    costs = f"{by_profile:.3f} by profile, {whoever:.3f} whoever it is, {chance:.3f} by chance"
    print(f"held-out picks, in nats a group: {costs}")
    if by_profile >= whoever:
        print("profiles do not tell these picks apart: the user prompt will say what everybody likes")


def _made_with(groups: GroupTensors, family: FamilyPaths, vocabulary: Vocabulary) -> str:
    digest = hashlib.sha256(f"{groups.fingerprint()} {fingerprint(family.clip())} {vocabulary}".encode())
    if groups.images is not None:
        update_with(digest, groups.images)
    return digest.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="table of groups")
    parser.add_argument("--out", type=Path, required=True, help="where the run is kept; the same again resumes")
    parser.add_argument("--weights", type=Path, default=TINY, help="family with pipeline/ and reward/ (%(default)s)")
    parser.add_argument("--unet", type=Path, help="diffusers U-Net directory (default: the family's backbone)")
    for name in CHANGES:
        default = UserPromptRecipe.__dataclass_fields__[name]
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=default.type, default=default.default, help="(default: %(default)s)"
        )
    arguments = parser.parse_args()
    hush_libraries()
    family = FamilyPaths.under(arguments.weights)
    try:
        recipe = UserPromptRecipe(**{name: getattr(arguments, name) for name in CHANGES})
        make_run_dir(arguments.out)
        family.check_pipeline(unet=arguments.unet is None)
        wishing = wishing_of(arguments.data, family, arguments.out)
        adapter = train_user_prompt(recipe, wishing, family, arguments.out, arguments.unet or family.backbone_files)
    except (ModelError, Diverged) as error:
        print(f"training stopped: {error}", file=sys.stderr)
        return 1
    print(f"adapter written to {adapter}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
