"""Fits preference weights on any table of groups: which phrases merchants of a profile favour. Minutes on one core.

    python -m training.wishes.train --data TABLE --out build/wishes

The family's CLIP finds which phrases of phrases.json every candidate shows (no labels are needed), and a choice model
learns from the picks which of them each profile favours. It needs a family's `reward/`, `phrases.json` and
`feature_schema.json`. Tags are kept in build/prepared, so a repeated command is quick. `--out` gets

    preferences/   the weights, a part of the family: cp -rT build/wishes/preferences FAMILY/preferences
    picks.json     the cross-entropy of held-out picks by profile, and by the population average alone

A kind needs at least two phrases: a kind's only phrase never becomes a wish, so "belted" needs "beltless".
"""

import argparse
import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from contract.errors import FeatureError, InputError, VocabularyError
from contract.feature_schema import FeatureSchema
from contract.vocabulary import Vocabulary
from training.common.loop import make_run_dir
from training.common.storage import fingerprint
from training.data.groups import GroupError, GroupTensors, update_with
from training.data.load import CACHE, is_table, kept, reward_groups
from training.data.table import read_schema, read_table
from training.models.family import TINY, FamilyPaths, hush_libraries
from training.wishes.preferences import PreferenceWeights, fit, held_out_losses
from training.wishes.tagging import tags_by_clip


def train(data: Path, family: FamilyPaths, out: Path) -> PreferenceWeights:
    """Fits the weights to a table's picks, and writes them with the cross-entropy of held-out picks.

    Raises:
        InputError: the table and the family do not fit together; raised before long work where possible.
    """
    make_run_dir(out)
    vocabulary = check(data, family)
    groups = reward_groups(data, family)
    tags = tags_of(groups, family, vocabulary)
    model = fit(tags, groups, vocabulary)
    picks = predicted(model, tags, groups)
    (out / "picks.json").write_text(json.dumps(picks, indent=1) + "\n")
    print(verdict(picks))
    if not model.weights.any():
        raise GroupError(f"{len(groups)} groups favour no phrase: there is nothing to wish for")
    model.save(out / "preferences")
    return model


def check(data: Path, family: FamilyPaths) -> Vocabulary:
    """The family's vocabulary, if this table can train preference weights.

    Raises:
        GroupError: not a table.
        FeatureError: the table has another feature schema than the family.
        VocabularyError: the phrases offer no choice, or no prompt names a category.
    """
    if not data.is_dir():
        raise GroupError(f"{data} is not a directory" if data.exists() else f"{data} does not exist")
    if not is_table(data):
        raise GroupError(f"{data} is no table of groups: prompts and pictures are needed as they are")
    vocabulary = family.vocabulary()
    if not any(len(kind.phrases) > 1 for kind in vocabulary.kinds[1:]):
        raise VocabularyError(f"{family.phrases}: no kind after the category has two phrases to choose from")
    check_schema(read_schema(data), family.schema(), data)
    prompts = [group.prompt for group in read_table(data, images=False)]
    named = sum(vocabulary.category.name in vocabulary.asked(prompt) for prompt in prompts)
    if not named:
        some = ", ".join(vocabulary.category.phrases[:3])
        raise VocabularyError(f"no prompt of {data} names a category of {family.phrases} ({some}, …)")
    if named < len(prompts):
        print(f"{len(prompts) - named} of {len(prompts)} prompts name no category; in service nothing is added to such")
    return vocabulary


def check_schema(found: FeatureSchema, wanted: FeatureSchema, data: Path) -> None:
    """Refuses a table of another schema, naming the first feature that differs."""
    if found == wanted:
        return
    ours = {feature.name: feature for feature in wanted.features}
    theirs = {feature.name: feature for feature in found.features}
    odd = next((name for name in [*ours, *theirs] if ours.get(name) != theirs.get(name)), None)
    what = f"differ in the feature {odd!r}" if odd else "have their features in another order or version"
    raise FeatureError(f"{data / 'feature_schema.json'} and the family's schema {what}")


def tags_of(groups: GroupTensors, family: FamilyPaths, vocabulary: Vocabulary) -> np.ndarray:
    """The candidates' tags, computed once for these pictures, this vocabulary and this CLIP."""
    clip = family.clip()
    how = (groups.selected.shape, vocabulary, fingerprint(clip), family.preprocess(clip).settings)
    digest = hashlib.sha256(repr(how).encode())
    digest.update(family.reward_tokenizer().backend_tokenizer.to_str().encode())
    assert groups.images is not None  # prepared from a table
    update_with(digest, groups.images)
    path = CACHE / f"tags-{digest.hexdigest()[:16]}.npy"
    return kept(path, lambda: tags_by_clip(groups, family, vocabulary))


def predicted(model: PreferenceWeights, tags: np.ndarray, groups: GroupTensors) -> dict[str, float]:
    """The cross-entropy of held-out groups' picks by profile and by the population average, in nats a group."""
    alike = replace(groups, features=np.zeros_like(groups.features))
    by_profile = held_out_losses(model, tags, groups)
    average = held_out_losses(fit(tags, alike, model.vocabulary), tags, alike)
    gain = average - by_profile
    return {
        "held_out_groups": len(gain), "by_profile": float(by_profile.mean()), "by_average": float(average.mean()),
        "gain": float(gain.mean()), "standard_error": float(gain.std() / max(1, len(gain) - 1) ** 0.5),
    }  # fmt: skip


def verdict(picks: dict[str, float]) -> str:
    """Whether profiles predict held-out picks better than the population average, as lines of text."""
    gain, error = picks["gain"], picks["standard_error"]
    costs = f"{picks['by_profile']:.3f} by profile, {picks['by_average']:.3f} by the population average"
    line = f"{picks['held_out_groups']} held-out groups, nats a group: {costs}; gain {gain:.3f} ± {error:.3f}"
    if gain >= 2 * error and gain > 0:
        return line
    return line + "\nthese picks do not show that profiles tell merchants apart; few wishes will be personal"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="table of groups (training.data.table)")
    parser.add_argument("--out", type=Path, required=True, help="where the weights are written")
    parser.add_argument("--weights", type=Path, default=TINY, help="the family (default: %(default)s)")
    arguments = parser.parse_args()
    hush_libraries()
    try:
        train(arguments.data, FamilyPaths.under(arguments.weights), arguments.out)
    except (InputError, OSError) as error:
        print(f"training stopped: {error}", file=sys.stderr)
        return 1
    print(f"preference weights written to {arguments.out / 'preferences'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
