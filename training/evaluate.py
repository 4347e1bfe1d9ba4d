"""How well a trained reward model predicts what users select, against what could be known.

    python -m training.evaluate reward --data build/unseen --model training/weights/tiny

`--data` is a Parquet table of groups (training.data.table). Prints, and with --out writes as JSON:
MAP and GAUC with the groups that one class dropped; the same with every group's features given to
another group (shuffled users: what is left does not depend on the user); and, where the market's
truth.parquet lies beside the table, one row per category and the ceilings: the GAUC of the best
possible ranking without the user, from the features alone, and with the whole truth.

share of the ceiling = (GAUC − without the user) / (from the features − without the user)
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from training.data.groups import GroupTensors
from training.data.load import reward_groups
from training.data.market_table import TRUTH
from training.family import TINY, FamilyPaths, hush_libraries
from training.metrics import rank_metrics
from training.models.errors import ModelError
from training.reward_scores import RewardScorer

CEILINGS = {"no_user": "utility_without_user", "features": "utility_by_features", "full": "utility"}


def evaluate_reward(data: Path, family: FamilyPaths, seed: int = 0) -> dict[str, Any]:
    """All that the module says, as JSON values."""
    groups, scorer = reward_groups(data, family), RewardScorer.of(family)
    if groups.schema != family.schema():
        raise ModelError(f"{data} has another feature schema than the model was trained with")
    scores = scorer.all(groups)
    shuffled = np.random.default_rng(seed).permutation(len(groups))
    found: dict[str, Any] = {
        "own_users": _ranking(scores, groups),
        "shuffled_users": _ranking(scorer.all(groups, groups.features[shuffled]), groups),
    }
    if (data / TRUTH).exists():
        found |= _against_the_truth(data, groups, scores)
    return found


def _against_the_truth(data: Path, groups: GroupTensors, scores: np.ndarray) -> dict[str, Any]:
    truth = pq.read_table(data / TRUTH).to_pydict()
    row_of = {name: row for row, name in enumerate(truth["group_id"])}
    assert groups.group_ids is not None  # prepared from a table
    rows = np.array([row_of[name] for name in groups.group_ids])
    by_name = {name: np.array(truth[column])[rows] for name, column in CEILINGS.items()}
    category = np.array(truth["category"])[rows]
    everything = np.ones(len(groups), bool)
    named = {"all": everything, **{name: category == name for name in np.unique(category)}}
    return {"categories": {name: _row(groups, scores, by_name, where) for name, where in named.items()}}


def _row(
    groups: GroupTensors, scores: np.ndarray, truth: dict[str, np.ndarray], where: np.ndarray
) -> dict[str, float | int]:
    """GAUC of the model and of the ceilings over the groups `where` (N,), and the share between them."""
    part = groups.rows(np.flatnonzero(where))
    gauc = {name: _ranking(utility[where], part)["gauc"] for name, utility in truth.items()}
    mine = _ranking(scores[where], part)
    share = (mine["gauc"] - gauc["no_user"]) / (gauc["features"] - gauc["no_user"])
    return {**mine, **{f"ceiling_{name}": value for name, value in gauc.items()}, "share_of_ceiling": share}


def _ranking(scores: np.ndarray, groups: GroupTensors) -> dict[str, Any]:
    return asdict(rank_metrics(scores, np.asarray(groups.selected), groups.there))


def _table(found: dict[str, Any]) -> str:
    """For a reader."""
    lines = [f"{'':<16} {'MAP':>6} {'GAUC':>6} {'groups':>7} {'dropped':>8}"]
    for name in ("own_users", "shuffled_users"):
        row = found[name]
        lines.append(f"{name:<16} {row['map']:>6.3f} {row['gauc']:>6.3f} {row['groups']:>7} {row['dropped']:>8}")
    if "categories" in found:
        lines.append(f"\n{'category':<16} {'GAUC':>6} {'no user':>8} {'features':>9} {'full':>6} {'share':>6}")
    for name, row in found.get("categories", {}).items():
        lines.append(
            f"{name:<16} {row['gauc']:>6.3f} {row['ceiling_no_user']:>8.3f} {row['ceiling_features']:>9.3f} "
            f"{row['ceiling_full']:>6.3f} {row['share_of_ceiling']:>6.2f}"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["reward"], help="the kind of model")
    parser.add_argument("--data", type=Path, required=True, help="table of groups")
    parser.add_argument("--model", type=Path, default=TINY, help="family with perfusion_rm/ (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    arguments = parser.parse_args()
    hush_libraries()
    try:
        found = evaluate_reward(arguments.data, FamilyPaths.under(arguments.model))
    except ModelError as error:
        print(f"cannot evaluate: {error}", file=sys.stderr)
        return 1
    print(_table(found))
    if arguments.out:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
