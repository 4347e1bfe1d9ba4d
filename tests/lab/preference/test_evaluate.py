"""A reward model against what could be known: the ceilings that the truth sets, by category."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from contract.feature_schema import FeatureSchema
from lab.market.table import TRUTH
from lab.preference.evaluate import main
from lab.preference.evaluation import evaluate
from training.common.errors import ModelError
from training.common.metrics import rank_metrics
from training.data.load import reward_groups
from training.data.table import Candidate, Group, write_table
from training.models.family import FamilyPaths
from training.reward.scores import RewardScorer

N, K = 40, 3


@pytest.fixture
def market(tmp_path: Path, schema: FeatureSchema, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Groups whose truth knows the pick: utility with the user, nothing without."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    groups, truth = [], []
    for n in range(N):
        picked = int(rng.integers(K))
        candidates = tuple(Candidate(f"{n}-{k}", k == picked, _png(rng)) for k in range(K))
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


def _png(rng: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def test_it_says_what_is_reached_of_what_could_be(market: Path, family: FamilyPaths) -> None:
    found = evaluate(market, family)
    groups = reward_groups(market, family)
    assert found["own_users"]["gauc"] == rank_metrics(RewardScorer.of(family).all(groups), groups.selected).gauc
    everything = found["sets"]["all"]
    assert (everything["ceilings"]["no_user"], everything["ceilings"]["features"]) == (0.5, 1.0)
    row = everything["rows"]["own_users"]
    assert row["share_of_ceiling"] == pytest.approx((row["gauc"]["mean"] - 0.5) / 0.5)
    assert row["gauc"]["mean"] == pytest.approx(found["own_users"]["gauc"])
    assert set(found["sets"]) == {"all", "coat", "dress"}
    assert found["sets"]["coat"]["groups"] == N // 2


def test_without_a_truth_there_are_no_ceilings(market: Path, family: FamilyPaths) -> None:
    (market / TRUTH).unlink()
    with pytest.raises(ModelError, match=r"table has no truth\.parquet: python -m training\.reward\.evaluate"):
        evaluate(market, family)


def test_the_command_writes_what_it_prints(
    market: Path, family: FamilyPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = market.parent / "numbers" / "reward.json"
    command = ["evaluate", "--model", str(family.reward.parent), "--data", str(market)]
    monkeypatch.setattr(sys, "argv", [*command, "--out", str(out)])
    assert main() == 0
    printed = capsys.readouterr().out
    assert "own_users" in printed and "shuffled_users" in printed and "coat: 20 groups" in printed
    assert json.loads(out.read_text())["sets"]["all"]["groups"] == N
    (market / TRUTH).unlink()
    monkeypatch.setattr(sys, "argv", command)
    assert main() == 1
    assert "cannot evaluate: " in capsys.readouterr().err
