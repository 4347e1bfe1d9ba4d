"""The report on reward models: from the scores of every cell to reward.json, tables and pictures.

Reads the files of lab.preference.table: runs/<set>[-<groups>]-<model>-<seed>/scores.npz, the prepared test sets and
the answer sheets beside their tables. Knows numbers; trains nothing.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from lab.market.table import TRUTH
from training.common.errors import ModelError
from training.common.metrics import average_precision, group_auc
from training.common.plots import plot_intervals, plot_lines
from training.common.reports import write_report
from training.common.resampling import Resampler, interval
from training.data.groups import GroupTensors
from training.reward.recipes import MODELS

CEILINGS = {"no_user": "utility_without_user", "features": "utility_by_features", "full": "utility"}
SETS = ("industrial", "industrial_unseen", "industrial_shuffled", "pickapic_like")
Row = dict[str, Any]
Found = dict[tuple[str, int | None, str], dict[int, dict[str, np.ndarray]]]


@dataclass(frozen=True, eq=False)
class RoundsWithTruth:
    """Rounds with their truth; groups of one class are dropped and counted.

    selected, present:  bool (G, K)
    users, categories:  int and str (G,)
    truth:              float64 (G, K) by ceiling
    """

    selected: np.ndarray
    present: np.ndarray
    users: np.ndarray
    categories: np.ndarray
    truth: Mapping[str, np.ndarray]
    usable: np.ndarray  # bool, over the groups as scored
    dropped: int

    @classmethod
    def of(cls, groups: GroupTensors, table: Path) -> "RoundsWithTruth":
        """A prepared set with the answer sheet beside its table.

        Where the profile is the user's id, it determines the whole taste.
        """
        sheet = pq.read_table(table / TRUTH).to_pydict()
        row_of = {name: row for row, name in enumerate(sheet["group_id"])}
        assert groups.group_ids is not None and groups.user_ids is not None  # prepared from a table
        rows = np.array([row_of[name] for name in groups.group_ids])
        usable = groups.selected.any(1) & (groups.there & ~groups.selected).any(1)
        truth = {name: np.array(sheet[column])[rows][usable] for name, column in CEILINGS.items()}
        if [feature.name for feature in groups.schema.features] == ["user_id"]:
            truth["features"] = truth["full"]
        _, users = np.unique(groups.user_ids[usable], return_inverse=True)
        return cls(
            np.asarray(groups.selected)[usable], groups.there[usable], users,
            np.array(sheet["category"])[rows][usable], truth, usable, int((~usable).sum()),
        )  # fmt: skip

    def only(self, where: np.ndarray) -> "RoundsWithTruth":
        """The groups `where`, bool (G,)."""
        usable = self.usable.copy()
        usable[np.flatnonzero(usable)[~where]] = False
        truth = {name: value[where] for name, value in self.truth.items()}
        return RoundsWithTruth(
            self.selected[where], self.present[where], self.users[where], self.categories[where], truth, usable, 0
        )


def measure(test: RoundsWithTruth, scores: Mapping[str, Sequence[np.ndarray]]) -> Row:
    """One set of the report: `scores` are each model's, one array (N, K) per seed."""
    sample = Resampler(test.users)
    of_truth = {name: group_auc(utility, test.selected, test.present) for name, utility in test.truth.items()}
    ceilings = {name: sample.mean(auc[None]) for name, auc in of_truth.items()}
    low, low_draws = ceilings["no_user"]
    span, span_draws = ceilings["features"][0] - low, ceilings["features"][1] - low_draws
    rows: dict[str, Row] = {}
    aucs: dict[str, np.ndarray] = {}
    for model, by_seed in scores.items():
        usable = [array[test.usable] for array in by_seed]
        if not all(np.isfinite(array[test.present]).all() for array in usable):
            raise ModelError(f"{model} gave scores that are not finite")
        gauc, draws = sample.mean(np.stack([group_auc(array, test.selected, test.present) for array in usable]))
        ap = sample.mean(np.stack([average_precision(array, test.selected, test.present) for array in usable]))
        share = interval((gauc - low) / span, (draws - low_draws) / span_draws)
        rows[model] = {
            "gauc": interval(gauc, draws), "map": interval(*ap), "share_of_ceiling": share["mean"],
            "share_of_ceiling_interval": share, "seeds": len(usable),
        }  # fmt: skip
        aucs[model] = draws
    return {
        "ceilings": {name: mean for name, (mean, _) in ceilings.items()},
        "groups": len(test.selected),
        "dropped_groups": test.dropped,
        "rows": rows,
        "lead_of_perfusion_rm": _leads(rows, aucs),
    }


def _leads(rows: Mapping[str, Row], draws: Mapping[str, np.ndarray]) -> dict[str, Row]:
    """PerFusionRM's GAUC minus each other's, the same users drawn for both."""
    if "perfusion_rm" not in rows:
        return {}
    own, own_draws = rows["perfusion_rm"]["gauc"]["mean"], draws["perfusion_rm"]
    return {
        model: interval(own - row["gauc"]["mean"], own_draws - draws[model])
        for model, row in rows.items()
        if model != "perfusion_rm"
    }


# ---- all sets ----------------------------------------------------------------------------------


def read_scores(runs: Path) -> Found:
    """(training set, its groups or None, model) → seed → test set → scores (N, K)."""
    found: Found = {}
    pattern = re.compile(rf"(industrial|pickapic_like)(?:-(\d+))?-({'|'.join(MODELS)})-(\d+)")
    for path in sorted(runs.glob("*/scores.npz")):
        match = pattern.fullmatch(path.parent.name)
        if match:
            key = (match[1], int(match[2]) if match[2] else None, match[3])
            found.setdefault(key, {})[int(match[4])] = dict(np.load(path))
    return found


def report(work: Path, tests: Mapping[str, RoundsWithTruth]) -> Row:
    """Writes <work>.json and the pictures under `work`; returns what the JSON holds.

    Args:
        tests: by name among SETS, without the shuffled one, which has industrial's rounds.

    Raises:
        ModelError: no cell is finished.
    """
    found = read_scores(work / "runs")
    if not found:
        raise ModelError(f"no finished run under {work / 'runs'}")
    tests = {**tests, **({"industrial_shuffled": tests["industrial"]} if "industrial" in tests else {})}
    sets: dict[str, Row] = {}
    for name, test in tests.items():
        scores = _of_set(found, name)
        if scores:
            sets[name] = measure(test, scores)
            if name == "industrial":
                for category in np.unique(test.categories):
                    sets[str(category)] = measure(test.only(test.categories == category), scores)
    result = {
        "seeds": sorted({seed for by_seed in found.values() for seed in by_seed}),
        "sets": sets,
        "learning_curve": _learning_curve(work / "runs", found, tests),
    }
    write_report(work.with_name(f"{work.name}.json"), result)
    _draw(result, work)
    return result


def _of_set(found: Found, name: str) -> dict[str, list[np.ndarray]]:
    """Model → scores of one test set, one array a seed, models in the report's order."""
    trained_on = "pickapic_like" if name == "pickapic_like" else "industrial"
    by_model = {model: found.get((trained_on, None, model), {}) for model in MODELS}
    return {m: [by_seed[s][name] for s in sorted(by_seed)] for m, by_seed in by_model.items() if by_seed}


def _learning_curve(runs: Path, found: Found, tests: Mapping[str, RoundsWithTruth]) -> dict[str, list[Row]]:
    """PerFusionRM's rows by the number of groups it trained on, ascending."""
    curve: dict[str, list[Row]] = {}
    keys = [key for key in found if key[0] == "industrial" and key[2] == "perfusion_rm"]
    for name in ("industrial", "industrial_unseen"):
        for key in keys if name in tests else []:
            by_seed = found[key]
            row = measure(tests[name], {key[2]: [by_seed[seed][name] for seed in sorted(by_seed)]})["rows"][key[2]]
            curve.setdefault(name, []).append({"groups": _training_groups(runs, key, min(by_seed)), **row})
    return {name: sorted(rows, key=lambda row: row["groups"]) for name, rows in curve.items()}


def _training_groups(runs: Path, key: tuple[str, int | None, str], seed: int) -> int:
    of = f"-{key[1]}" if key[1] else ""
    result = json.loads((runs / f"{key[0]}{of}-{key[2]}-{seed}" / "result.json").read_text())
    return int(result["training_groups"])


def table(result: Row) -> str:
    """The report as text, one block for each set."""
    lines: list[str] = []
    for name, found in result["sets"].items():
        told = ", ".join(f"{ceiling} {value:.3f}" for ceiling, value in found["ceilings"].items())
        lines += [f"\n{name}: {found['groups']} groups, {found['dropped_groups']} dropped; ceilings: {told}"]
        lines += [f"  {'':<13} {'GAUC':>6} {'95 %':>15} {'MAP':>6} {'95 %':>15} {'share':>6} {'seeds':>6}"]
        for model, row in found["rows"].items():
            told = " ".join(f"{m['mean']:>6.4f} [{m['low']:.4f} {m['high']:.4f}]" for m in (row["gauc"], row["map"]))
            lines.append(f"  {model:<13} {told} {row['share_of_ceiling']:>6.2f} {row['seeds']:>6}")
    return "\n".join(lines)


def _draw(result: Row, work: Path) -> None:
    sets: dict[str, Row] = result["sets"]
    named = {name: sets[name] for name in SETS if name in sets}
    ceilings = {name: found["ceilings"] for name, found in named.items()}
    plot_intervals({name: _bars(found) for name, found in named.items()}, ceilings, work / "gauc.png")
    categories = {name: found for name, found in sets.items() if name not in SETS}
    shares = {
        name: found["rows"]["perfusion_rm"]["share_of_ceiling_interval"]
        for name, found in categories.items()
        if "perfusion_rm" in found["rows"]
    }
    if shares:
        plot_intervals({"PerFusionRM's share of the ceiling": shares}, {}, work / "categories.png")
    curve: dict[str, list[Row]] = result["learning_curve"]
    if any(len(rows) > 1 for rows in curve.values()):
        lines = {name: [(float(row["groups"]), row["gauc"]) for row in rows] for name, rows in curve.items()}
        plot_lines(lines, "training groups", "GAUC", work / "learning_curve.png")


def _bars(found: Row) -> dict[str, Row]:
    return {model: row["gauc"] for model, row in found["rows"].items()}
