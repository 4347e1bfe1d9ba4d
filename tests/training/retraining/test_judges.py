"""The judge is independent of both families, or refused; one that is trained here needs groups enough."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.training.retraining.two_families import Two
from training.data.load import reward_groups
from training.models.family import FamilyPaths
from training.retraining.hold_out import HoldOutError
from training.retraining.judges import JudgeError, for_the_judge, given_judge, trained_judge
from training.retraining.trained_on import TrainedOn


@pytest.fixture
def two(tmp_path: Path, family: FamilyPaths) -> Two:
    return Two.at(tmp_path, family)


def given(two: Two, judge: Path) -> None:
    roots = (two.live, two.candidate)
    given_judge(judge, [FamilyPaths.under(root) for root in roots], roots)


def test_a_reward_model_of_its_own_is_a_judge_and_those_of_the_families_are_none(two: Two, tmp_path: Path) -> None:
    given(two, two.judge)
    with pytest.raises(JudgeError, match=f"the judge {two.candidate} is the family"):
        given(two, two.candidate)
    shutil.copytree(two.live / "perfusion_rm", tmp_path / "copied" / "perfusion_rm")
    with pytest.raises(JudgeError, match="is the reward model of .*live, which its training aims at"):
        given(two, tmp_path / "copied")


def test_a_judge_that_was_trained_on_a_familys_groups_is_none(two: Two) -> None:
    record = json.loads((two.candidate / "retraining.json").read_text())
    (two.judge / "retraining.json").write_text(json.dumps(record))
    with pytest.raises(JudgeError, match="were both trained on 12 of the same groups"):
        given(two, two.judge)
    held_out = {"groups": [f"g{n:05d}" for n in range(12)]}
    (two.judge / "retraining.json").write_text(json.dumps(record | {"hold_out": held_out}))
    given(two, two.judge)


def test_a_judge_that_was_trained_on_held_out_groups_is_none(two: Two) -> None:
    TrainedOn(frozenset({"g00020", "g00021", "elsewhere"})).write(two.judge)
    (two.judge / "retraining.json").write_text("{}")
    families, roots = [FamilyPaths.under(root) for root in (two.live, two.candidate)], (two.live, two.candidate)
    given_judge(two.judge, families, roots, ["g00030"])
    with pytest.raises(JudgeError, match="was trained on 2 of the held-out groups that it is to judge"):
        given_judge(two.judge, families, roots, ["g00020", "g00021", "g00030"])


def test_merchants_are_divided_always_alike_and_about_in_halves(two: Two, family: FamilyPaths, tmp_path: Path) -> None:
    merchants = np.array([f"m{n}" for n in range(400)])
    mine = for_the_judge(merchants)
    assert 150 < mine.sum() < 250 and (for_the_judge(merchants[::-1]) == mine[::-1]).all()
    groups = reward_groups(two.table, family, tmp_path / "cache", quiet=True)
    with pytest.raises(HoldOutError, match="20 groups are held out to train a judge on, 30 are the least"):
        trained_judge(groups.rows(slice(0, 20)), family, tmp_path / "out")
