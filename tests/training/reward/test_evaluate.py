"""Evaluating a reward model: the command's numbers, the shuffled-user control, and tables that do not fit."""

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from contract.feature_schema import Feature, FeatureSchema
from lab.market.table import TRUTH
from training.common.errors import ModelError
from training.common.metrics import rank_metrics
from training.data.load import generator_groups, reward_groups
from training.data.table import Candidate, Group, write_table
from training.models.family import FamilyPaths
from training.reward.baselines.pickscore import PickScore
from training.reward.evaluate import evaluate_reward, main
from training.reward.models import save
from training.reward.scores import RewardScorer

N, K = 40, 3


def png(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def table(tmp_path: Path, schema: FeatureSchema, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Groups whose truth knows the pick: utility with the user, nothing without."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    groups, truth = [], []
    for n in range(N):
        picked = int(rng.integers(K))
        candidates = tuple(Candidate(f"{n}-{k}", k == picked, png(rng)) for k in range(K))
        style = str(rng.choice(["minimalist", "luxury"]))
        groups.append(Group(f"g{n}", f"u{n}", "dress,red", candidates, {"style": style}))
        known = [float(k == picked) for k in range(K)]
        truth.append({
            "group_id": f"g{n}", "category": "dress" if n % 2 else "coat", "utility": known,
            "utility_by_features": known, "utility_without_user": [0.0] * K,
        })  # fmt: skip
    write_table(tmp_path / "table", groups, schema)
    pq.write_table(pa.Table.from_pylist(truth[::-1]), tmp_path / "table" / TRUTH)  # in another order
    return tmp_path / "table"


def test_it_says_what_is_reached_of_what_could_be(table: Path, family: FamilyPaths) -> None:
    found = evaluate_reward(table, family)
    groups = reward_groups(table, family)
    scores = RewardScorer.of(family).all(groups)
    assert found["own_users"]["gauc"] == rank_metrics(scores, groups.selected).gauc
    order = np.random.default_rng(0).permutation(N)
    of_others = RewardScorer.of(family).all(groups, groups.features[order])
    assert not np.allclose(of_others, scores, rtol=1e-4)
    assert found["shuffled_users"]["gauc"] == rank_metrics(of_others, groups.selected).gauc
    everything = found["sets"]["all"]
    assert (everything["ceilings"]["no_user"], everything["ceilings"]["features"]) == (0.5, 1.0)
    row = everything["rows"]["own_users"]
    assert row["share_of_ceiling"] == pytest.approx((row["gauc"]["mean"] - 0.5) / 0.5)
    assert row["gauc"]["mean"] == pytest.approx(found["own_users"]["gauc"])
    assert {"coat", "dress"} <= set(found["sets"])
    assert found["sets"]["coat"]["groups"] == N // 2


def test_without_a_truth_there_are_no_ceilings(table: Path, family: FamilyPaths) -> None:
    (table / TRUTH).unlink()
    assert set(evaluate_reward(table, family)) == {"own_users", "shuffled_users"}


def test_another_schema_is_refused(tmp_path: Path, table: Path, family: FamilyPaths) -> None:
    other = FeatureSchema((Feature("user_id", "categorical", ("u0",)),))
    pictures = tuple(Candidate(str(k), k == 0, png(np.random.default_rng(k))) for k in range(2))
    write_table(tmp_path / "other", [Group("g", "u0", "dress", pictures, {"user_id": "u0"})], other)
    with pytest.raises(ModelError, match="another feature schema"):
        evaluate_reward(tmp_path / "other", family)


def test_a_generators_groups_have_latents_of_its_vae(table: Path, family: FamilyPaths) -> None:
    groups = generator_groups(table, family)
    assert groups.images is None and groups.latents is not None
    assert groups.latents.shape[:2] == (N, K) and np.isfinite(groups.latents).all()
    np.testing.assert_array_equal(generator_groups(table, family).latents, groups.latents)


def test_the_command_writes_what_it_prints(
    table: Path, family: FamilyPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = table.parent / "numbers" / "reward.json"
    command = ["evaluate", "reward", "--model", str(family.reward.parent)]
    monkeypatch.setattr(sys, "argv", [*command, "--data", str(table), "--out", str(out)])
    assert main() == 0
    printed = capsys.readouterr().out
    assert "own_users" in printed and "share" in printed
    assert json.loads(out.read_text())["own_users"]["groups"] == N
    monkeypatch.setattr(sys, "argv", [*command, "--data", str(table.parent)])
    assert main() == 1
    assert "is not a directory of groups" in capsys.readouterr().err


def test_a_training_is_evaluated_on_the_backbone_of_a_family(
    table: Path,
    family: FamilyPaths,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(family.perfusion_rm, tmp_path / "run" / "perfusion_rm")
    command = ["evaluate", "reward", "--data", str(table), "--model", str(tmp_path / "run")]
    monkeypatch.setattr(sys, "argv", [*command, "--weights", str(family.reward.parent)])
    assert main() == 0
    assert "own_users" in capsys.readouterr().out
    (tmp_path / "run" / "perfusion_rm").rename(tmp_path / "elsewhere")
    clip = family.clip()
    save(PickScore(clip), tmp_path / "run" / "pickscore")
    assert main() == 0
    told = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if "_users" in line}
    assert told["own_users"] == told["shuffled_users"]  # a baseline knows no users
    monkeypatch.setattr(sys, "argv", [*command[:-1], str(tmp_path / "nothing"), "--weights", str(family.reward.parent)])
    assert main() == 1
    assert "perfusion_rm/config.json is missing" in capsys.readouterr().err
