"""The judge of an offline gate: a reward model that neither family's training has used, neither as a loss nor its data.

Either one that is given, or one that is trained here on half of the held-out merchants and asked about the other half.
What it is worth is measured by how it ranks picks that it has not seen. Knows reward models and groups; no families'
generators.
"""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from training.common.errors import ModelError
from training.common.storage import fingerprint
from training.data.groups import GroupTensors
from training.models.family import FamilyPaths
from training.retraining.hold_out import HoldOutError
from training.retraining.trained_on import trained_on
from training.reward.evaluation import family_of, model_in
from training.reward.models import Starts
from training.reward.recipes import tiny
from training.reward.scores import RewardScorer
from training.reward.training import train

RECIPE = replace(tiny(), steps=200, groups_per_batch=32, warmup_steps=40)  # on a few hundred groups
LEAST_GROUPS = 30  # to train a judge on


class JudgeError(ModelError):
    """The judge is not independent of what it is to judge."""


def given_judge(
    run: Path, families: Sequence[FamilyPaths], roots: Sequence[Path], held_out: Collection[str] = ()
) -> tuple[RewardScorer, FamilyPaths]:
    """The reward model of a training, or of a family, on its backbone.

    Args:
        families, roots: live and candidate.
        held_out: ids of the groups that it is asked about.

    Raises:
        JudgeError: it is the reward model of one of them, or it was trained on groups that one of them was trained on,
            or on held-out ones.
    """
    for root in roots:
        if run.resolve() == root.resolve():
            raise JudgeError(
                f"the judge {run} is the family {root} itself: give a reward model that it was not made by"
            )
    family, name = family_of(run, roots[0]), model_in(run)
    scorer = RewardScorer.of(family, name)
    own = fingerprint(scorer.model)
    for root, other in zip(roots, families, strict=True):
        if other.perfusion_rm.exists() and own == fingerprint(RewardScorer.of(other).model):
            raise JudgeError(f"the judge {run} is the reward model of {root}, which its training aims at")
    if (record := trained_on(run)) is not None:
        if both := record.group_ids & set(held_out):
            raise JudgeError(f"the judge {run} was trained on {len(both)} of the held-out groups that it is to judge")
        for root in roots:
            used = trained_on(root)
            if used is not None and (both := record.group_ids & used.group_ids):
                raise JudgeError(f"the judge {run} and {root} were both trained on {len(both)} of the same groups")
    return scorer, family


def trained_judge(groups: GroupTensors, family: FamilyPaths, out: Path) -> RewardScorer:
    """A PerFusionRM of these groups, on the family's backbone; minutes on one core at tiny size.

    Raises:
        HoldOutError: there are too few groups.
    """
    if len(groups) < LEAST_GROUPS:
        raise HoldOutError(
            f"{len(groups)} groups are held out to train a judge on, {LEAST_GROUPS} are the least: "
            "give one by --judge, or hold out more groups"
        )
    clip = family.clip()
    return train(RECIPE, groups, Starts(clip), family.preprocess(clip), out)


def for_the_judge(user_ids: np.ndarray) -> np.ndarray:
    """Which groups train a judge, bool (N,): all those of about half of the merchants, always the same ones."""
    digests = (hashlib.sha256(f"judge\0{user_id}".encode()).digest() for user_id in user_ids.tolist())
    return np.array([digest[0] % 2 == 0 for digest in digests], bool)
