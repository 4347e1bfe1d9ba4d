"""The report on generators: from the measurements of every cell's pictures to generation.json, tables and pictures.

Reads the files of lab.generation.table: drawn/<split>-<method>-<seed>.npz. Intervals resample pairs of merchants and,
independently, seeds; prompts are not resampled. The merchants of a pair share their prompts and so, where a method
ignores the merchant, their pictures. Each row states its seeds, since rows of other seeds also differ by their noise.
Knows numbers; draws and trains nothing.

best in group = the utility of the group's candidate with the highest utility to its merchant
taste captured = (utility − DPO's) / (best of 64 DPO pictures, chosen by the truth − DPO's)
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lab.generation.methods import METHODS, groups_seen
from lab.generation.splits import SPLITS, Rounds, Size, Split
from lab.generation.worth import by_truth, true_utility
from training.common.errors import ModelError
from training.common.plots import plot_grid, plot_intervals
from training.common.reports import write_report
from training.common.resampling import Resampler, interval

Row = dict[str, Any]
REWARD_METRICS = ("perfusion_rm", "pickscore", "clip_score", "aesthetic")
METRICS = ("true_utility", "best_in_group", *REWARD_METRICS, "prompt_accuracy", "diversity")
NOTES = {
    "pmg": "keywords of each user's own history and no language model; weighted by the CLIP of the clip_score column",
    "perfusion_plus": "the family's preference weights serve all seeds, which differ in dpo and the noise",
    "best_of_64_dpo": "of as many as size.best_of says, for the pool's prompts, chosen by the truth",
}
FOLLOWS = "dpo"  # the baseline of taste captured and of the first win rate


@dataclass(frozen=True, eq=False)
class Drawn:
    """A method's pictures of one split: by metric, one value a group or a picture, each (S, M, P) or (S, M, P, K)."""

    metrics: Mapping[str, np.ndarray]
    seeds: tuple[int, ...]

    @property
    def utility(self) -> np.ndarray:
        return self.metrics["true_utility"]

    def only(self, seeds: tuple[int, ...]) -> "Drawn":
        """These seeds, in this order."""
        at = [self.seeds.index(seed) for seed in seeds]
        return Drawn({name: values[at] for name, values in self.metrics.items()}, seeds)


def read(work: Path, split: str, rounds: Rounds) -> dict[str, Drawn]:
    """The finished cells of a split, by method in the report's order; `shuffled` uses the pictures of `seen`."""
    found: dict[str, Drawn] = {}
    drawn, prefix = ("seen", "shuffled_") if split == "shuffled" else (split, "")
    for method in METHODS:
        paths = cells(work, f"{drawn}-{method}")
        if paths:
            measured = [_measured(rounds, _load(path, rounds.size), prefix) for path in paths.values()]
            by_metric = {name: np.stack([cell[name] for cell in measured]) for name in measured[0]}
            found[method] = Drawn(by_metric, tuple(paths))
    return found


def cells(work: Path, name: str) -> dict[int, Path]:
    """Finished drawings of this name, by seed, ascending."""
    found = {path: re.fullmatch(rf"{name}-(\d+)", path.stem) for path in (work / "drawn").glob(f"{name}-*.npz")}
    return dict(sorted((int(match[1]), path) for path, match in found.items() if match))


def _load(path: Path, size: Size) -> Mapping[str, np.ndarray]:
    """A cell of this size: places in another pool would refer to other prompts than the drawn ones."""
    cell: Mapping[str, np.ndarray] = np.load(path)
    if not str(cell["made_with"]).endswith(f" {size}"):
        raise ModelError(f"{path} was drawn in another size than {size}")
    return cell


def _measured(rounds: Rounds, cell: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return by_truth(rounds, cell["shown"]) | {name: cell[prefix + name] for name in REWARD_METRICS}


def measure(
    rounds: Rounds, drawn: Mapping[str, Drawn], best: Mapping[int, np.ndarray], where: np.ndarray | None = None
) -> Row:
    """One split of the report.

    Args:
        best: by seed, the utility of the best of many DPO pictures to each merchant for each prompt, (M, P).
        where: which of the given prompts count, bool (M, P); None: all.
    """
    where = np.ones(rounds.given.shape, bool) if where is None else where
    sample = Resampler(rounds.pairs[np.nonzero(where)[0]])

    def mean(values: np.ndarray) -> tuple[float, np.ndarray]:  # (S, M, P) or (S, M, P, K)
        by_group = values if values.ndim == 3 else values.mean(-1)
        return sample.mean(by_group[:, where])

    result: Row = {"groups": int(where.sum()), "rows": {}}
    if best:
        result["best_of_64_dpo"] = interval(*mean(np.stack(list(best.values()))))
    for method, of in drawn.items():
        row: Row = {name: interval(*mean(of.metrics[name])) for name in METRICS} | {"seeds": list(of.seeds)}
        if best.keys() >= set(of.seeds) and FOLLOWS in drawn and set(drawn[FOLLOWS].seeds) >= set(of.seeds):
            dpo, limit = drawn[FOLLOWS].only(of.seeds), np.stack([best[seed] for seed in of.seeds])
            row["taste_captured"] = _captured(*(mean(values) for values in (of.utility, dpo.utility, limit)))
        row["win_rate_vs"] = {
            other: interval(*mean(_wins(of.only(both), against.only(both))))
            for other, against in drawn.items()
            if other != method and (both := tuple(seed for seed in of.seeds if seed in against.seeds))
        }
        result["rows"][method] = row
    return result


def _captured(own: tuple[float, np.ndarray], dpo: tuple[float, np.ndarray], best: tuple[float, np.ndarray]) -> Row:
    share, draws = ((a - b) / (c - b) for a, b, c in zip(own, dpo, best, strict=True))
    return interval(float(share), draws)


def _wins(one: Drawn, other: Drawn) -> np.ndarray:
    """How often a picture beats the other method's from the same noise, ties ½; (S, M, P, K)."""
    wins: np.ndarray = (one.utility > other.utility) + 0.5 * (one.utility == other.utility)
    return wins


# ---- all splits --------------------------------------------------------------------------------


def report(work: Path, size: Size) -> Row:
    """Writes <work>.json and the pictures under `work`; returns what the JSON holds.

    Raises:
        ModelError: no cell is drawn yet, or the cells have different judges.
    """
    judges = {str(np.load(path)["judged_by"]): path for path in sorted((work / "drawn").glob("*.npz"))}
    if len(judges) > 1:
        raise ModelError(f"not judged by the same models: {', '.join(map(str, judges.values()))}; remove the older")
    splits: dict[str, Row] = {}
    all_rounds = {split: Rounds.of(split, size) for split in SPLITS}
    all_drawn = {split: read(work, split, rounds) for split, rounds in all_rounds.items()}
    seeds = {seed for drawn in all_drawn.values() for of in drawn.values() for seed in of.seeds}
    pools = {seed: _load(path, size)["shown"] for seed, path in cells(work, "best-dpo").items()}
    for split, rounds in all_rounds.items():
        drawn = all_drawn[split]
        if not drawn:
            continue
        best = {} if split == "validation" else _best(pools, rounds)  # validation has a pool of its own
        splits[split] = measure(rounds, drawn, best)
        if split == "seen":
            for category in np.unique(rounds.categories):
                splits[str(category)] = measure(rounds, drawn, best, rounds.categories == category)
            contact_sheet(work, drawn, rounds, work / "contact_sheet.png")
    if not splits:
        raise ModelError(f"nothing is drawn under {work / 'drawn'}")
    result = {
        "seeds": sorted(seeds),
        "size": vars(size),
        "splits": splits,
        "phrase_order": _phrase_order(all_rounds, all_drawn),
        "groups_trained_on": {method: groups_seen(method) for method in METHODS},
        "notes": NOTES,
    }
    write_report(work.with_name(f"{work.name}.json"), result)
    _draw(result, work)
    return result


def _best(pools: Mapping[int, np.ndarray], rounds: Rounds) -> dict[int, np.ndarray]:
    """By seed, the utility of each merchant's best candidate for each prompt, (M, P), of those drawn for the pool."""
    return {seed: true_utility(rounds, shown[rounds.given]).max(-1) for seed, shown in pools.items()}


def _phrase_order(all_rounds: Mapping[Split, Rounds], all_drawn: Mapping[Split, Mapping[str, Drawn]]) -> Row:
    """The effect of another order of the phrases, by method, over prompts whose text it changes.

    The mean difference, and the mean of its absolute value picture by picture: one noise, one merchant, two orders.
    """
    rounds, shuffled = all_rounds["seen"], all_rounds["permuted"]
    plain, permuted = all_drawn["seen"], all_drawn["permuted"]
    changed = np.array([a != b for a, b in zip(rounds.prompts, shuffled.prompts, strict=True)])[rounds.given]  # (M, P)
    sample, found = Resampler(rounds.pairs[np.nonzero(changed)[0]]), {}
    for method in (method for method in permuted if method in plain):
        both = tuple(seed for seed in permuted[method].seeds if seed in plain[method].seeds)
        if not both:
            continue
        one, other = plain[method].only(both), permuted[method].only(both)
        found[method] = {"seeds": list(both)}
        for name in ("true_utility", "prompt_accuracy"):
            gap = (other.metrics[name] - one.metrics[name])[:, changed]  # (S, G, K)
            means = {"difference": gap.mean(-1), "absolute": np.abs(gap).mean(-1)}
            found[method][name] = {kind: interval(*sample.mean(values)) for kind, values in means.items()}
    return found


def contact_sheet(work: Path, drawn: Mapping[str, Drawn], rounds: Rounds, path: Path) -> None:
    """Merchants down, methods across, in the report's order: one prompt of each merchant, from one noise."""
    seeds = [set(of.seeds) for of in drawn.values()]
    seed = min(set.intersection(*seeds) or set.union(*seeds))  # a column without this seed is left out
    columns = {
        method: np.load(work / "drawn" / f"seen-{method}-{seed}.npz")["sheet"]
        for method, of in drawn.items()
        if seed in of.seeds
    }
    shown = len(next(iter(columns.values())))
    told = [f"{who.user_id}: {rounds.prompts[rounds.given[m, 0]]}" for m, who in enumerate(rounds.merchants[:shown])]
    plot_grid(columns, told, path)


def table(result: Row) -> str:
    """The report as text, one block for each split."""
    lines: list[str] = []
    for name, found in result["splits"].items():
        best = found.get("best_of_64_dpo")
        told = f"; best of {result['size']['best_of']} of DPO {best['mean']:.2f}" if best else ""
        lines += [f"\n{name}: {found['groups']} groups{told}"]
        lines += [
            f"  {'':<15}{'utility':>8} {'95 %':>15} {'taste':>6} {'beats DPO':>10} "
            + "".join(f"{m[:9]:>10}" for m in METRICS[1:])
            + "  seeds"
        ]
        for method, row in found["rows"].items():
            utility, taste, wins = row["true_utility"], row.get("taste_captured"), row["win_rate_vs"].get(FOLLOWS)
            bounds = f"[{utility['low']:.2f} {utility['high']:.2f}]"
            lines.append(
                f"  {method:<15}{utility['mean']:>8.2f} {bounds:>15} "
                f"{_or_dash(taste):>6} {_or_dash(wins):>10} "
                + "".join(f"{row[m]['mean']:>10.3f}" for m in METRICS[1:])
                + "  "
                + " ".join(map(str, row["seeds"]))
            )
    return "\n".join(lines)


def _or_dash(value: Row | None) -> str:
    return "–" if value is None else f"{value['mean']:.2f}"


def _draw(result: Row, work: Path) -> None:
    named = {name: result["splits"][name] for name in SPLITS if name in result["splits"]}
    for metric in ("true_utility", "perfusion_rm", "prompt_accuracy", "diversity"):
        panels = {name: {method: row[metric] for method, row in found["rows"].items()} for name, found in named.items()}
        limits = {
            name: {"best of many": found["best_of_64_dpo"]["mean"]}
            for name, found in named.items()
            if metric == "true_utility" and "best_of_64_dpo" in found
        }
        plot_intervals(panels, limits, work / f"{metric}.png")
