"""Evaluating a generator on a team's own table: paired by noise, by reward models, and by the picks they predict."""

from pathlib import Path

import numpy as np
import pytest

from tests.training.generator.shops import group
from training.data.groups import GroupError
from training.data.table import write_table
from training.generator.drawing import Generator
from training.generator.evaluation import Size, evaluate, measured_groups, reward_on
from training.models.family import FamilyPaths
from training.reward.evaluation import rankings, scores_of


def test_the_last_groups_with_a_pick_are_measured(table: Path, family: FamilyPaths, tmp_path: Path) -> None:
    found = measured_groups(table, family, Size(groups=4))
    assert [g.group_id for g in found] == ["g11", "g13", "g14", "g15"]
    rng, schema = np.random.default_rng(0), family.schema()
    write_table(tmp_path / "few", [group(0, rng), group(1, rng, picked=9)], schema)
    with pytest.raises(GroupError, match="1 groups with both a pick"):
        measured_groups(tmp_path / "few", family, Size())


def test_a_family_against_itself_is_a_draw_and_picks_are_ranked_as_by_the_reward_models_own_evaluation(
    table: Path, quick: FamilyPaths
) -> None:
    size = Size(groups=12, candidates=2)
    groups = measured_groups(table, quick, size)
    reward = reward_on(quick.reward.parent, quick.reward.parent, table, groups)
    plain = Generator(quick, personal=False)
    found = evaluate(groups, [reward], plain, plain, size)
    assert (found["groups"], found["merchants"], found["candidates"]) == (12, 8, 2)
    (row,) = found["rewards"].values()
    assert row["difference"] == {"mean": 0.0, "low": 0.0, "high": 0.0} and row["win_rate"]["mean"] == 0.5
    assert found["diversity"]["tried"] == found["diversity"]["baseline"] and found["diversity"]["tried"]["mean"] > 0
    own = rankings(*scores_of(table, quick))["own_users"]
    assert row["picks"]["own_users"]["gauc"] == pytest.approx(own["gauc"])  # groups without picks drop out
    assert row["best_of_tried"]["mean"] >= row["tried"]["mean"]
