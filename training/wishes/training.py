"""Preference weights from a table of groups: what it must offer, what its candidates show, and what the fit predicts.

`python -m training.wishes.train` is the command. Knows tables, families and the choice model; no command line.
"""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from contract.errors import VocabularyError
from contract.history import HISTORY
from contract.vocabulary import Vocabulary
from training.common.places import CACHE
from training.common.reports import write_report
from training.common.runs import held
from training.common.storage import write_origin
from training.data.groups import GroupError, GroupTensors, update_with
from training.data.load import kept, reward_groups
from training.data.table import check_data, check_schema, is_table, read_table
from training.models.family import FamilyPaths
from training.wishes.covariance import LEAST_MERCHANTS, population
from training.wishes.fitting import LEAST_GROUPS, Fit, fit
from training.wishes.preferences import PreferenceWeights
from training.wishes.tagging import Tagger, tags_by_clip


def train(data: Path, family: FamilyPaths, out: Path) -> PreferenceWeights:
    """Fits the weights to a table's picks, and writes them with the cross-entropy of held-out picks.

    Raises:
        InputError: the table and the family do not fit together; raised before long work where possible.
    """
    with held(out):
        vocabulary = check(data, family)
        groups = reward_groups(data, family)
        check_enough(len(groups.rows_with(negatives=True)), str(data))
        return train_on(groups, tags_of(groups, family, vocabulary), family, out)


def train_on(groups: GroupTensors, tags: np.ndarray, family: FamilyPaths, out: Path) -> PreferenceWeights:
    """Fits the weights to these groups, whose candidates show `tags`; writes out/picks.json and out/preferences.

    Where merchants have several picks, how they vary goes beside the weights, so that serving learns from histories.

    Raises:
        GroupError: they favour no phrase.
    """
    vocabulary = family.vocabulary()
    found = fit(tags, groups, vocabulary)
    picks = predicted(found, tags, groups)
    write_report(out / "picks.json", picks)
    print(verdict(picks))
    if not found.model.weights.any():
        raise GroupError(f"{len(groups)} groups favour no phrase: there is nothing to wish for")
    found.model.save(out / "preferences")
    (out / "preferences" / HISTORY).unlink(missing_ok=True)
    if vary := population(tags, groups, vocabulary, found):
        (out / "preferences" / HISTORY).write_text(vary.to_text(), encoding="utf-8")
    else:
        print(f"fewer than {LEAST_MERCHANTS} merchants have several picks: nothing is learnt of how merchants vary")
    write_origin(out / "preferences", family.reward_origin())  # whose tags they were fitted to
    return found.model


def check(data: Path, family: FamilyPaths) -> Vocabulary:
    """The family's vocabulary, if this table can train preference weights.

    Raises:
        TableError: not a table.
        GroupError: arrays instead of a table, or too few groups to learn from.
        FeatureError: the table has another feature schema than the family.
        VocabularyError: the phrases offer no choice, or no prompt names a category.
    """
    data = check_data(data)
    if not is_table(data):
        raise GroupError(f"{data} is no table of groups: prompts and pictures are needed as they are")
    vocabulary = family.vocabulary()
    if not any(len(kind.phrases) > 1 for kind in vocabulary.kinds[1:]):
        raise VocabularyError(f"{family.phrases}: no kind after the category has two phrases to choose from")
    check_schema(data, family.schema(), str(family.feature_schema))
    prompts, usable = list[str](), 0
    for group in read_table(data, images=False):
        prompts.append(group.prompt)
        usable += len({candidate.selected for candidate in group.candidates}) == 2  # a pick, and what it passed over
    check_enough(usable, str(data))
    named = sum(vocabulary.category.name in vocabulary.asked(prompt) for prompt in prompts)
    if not named:
        some = ", ".join(vocabulary.category.phrases[:3])
        raise VocabularyError(f"no prompt of {data} names a category of {family.phrases} ({some}, …)")
    if named < len(prompts):
        print(f"{len(prompts) - named} of {len(prompts)} prompts name no category; in service nothing is added to such")
    return vocabulary


def check_enough(usable: int, data: str) -> None:
    """Refuses a table that too little can be learnt from, before its pictures are read by CLIP."""
    if usable < LEAST_GROUPS:
        raise GroupError(
            f"{usable} groups of {data} have both a pick and what was passed over; {LEAST_GROUPS} are the least"
        )


def tags_of(groups: GroupTensors, family: FamilyPaths, vocabulary: Vocabulary) -> np.ndarray:
    """The candidates' tags, computed once for these pictures, this vocabulary and this CLIP."""
    tagger = Tagger(family, vocabulary)
    digest = hashlib.sha256(repr((groups.selected.shape, tagger.how)).encode())
    assert groups.images is not None  # prepared from a table
    update_with(digest, groups.images)
    path = CACHE / f"tags-{digest.hexdigest()[:16]}.npy"
    return kept(path, lambda: tags_by_clip(groups, tagger))


def predicted(found: Fit, tags: np.ndarray, groups: GroupTensors) -> dict[str, float]:
    """The cross-entropy of held-out groups' picks by profile and by the population average, in nats a group."""
    alike = replace(groups, features=np.zeros_like(groups.features))
    average = fit(tags, alike, found.model.vocabulary)
    gains, weights = average.losses - found.losses, found.weights / found.weights.sum()
    gain = float(gains @ weights)
    error = float(np.sqrt(weights**2 @ (gains - gain) ** 2))
    return {
        "held_out_groups": len(gains), "weight_decay": found.decay, "by_profile": found.loss,
        "by_average": average.loss, "gain": gain, "standard_error": error,
    }  # fmt: skip


def verdict(picks: dict[str, float]) -> str:
    """Whether profiles predict held-out picks better than the population average, as lines of text."""
    gain, error = picks["gain"], picks["standard_error"]
    costs = f"{picks['by_profile']:.3f} by profile, {picks['by_average']:.3f} by the population average"
    line = f"{picks['held_out_groups']} held-out groups, nats a group: {costs}; gain {gain:.3f} ± {error:.3f}"
    if gain >= 2 * error and gain > 0:
        return line
    return line + "\nthese picks do not show that profiles tell merchants apart; few wishes will be personal"
