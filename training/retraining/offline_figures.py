"""The figures of two families on held-out groups: how they rank and explain the picks, and what they draw.

Both draw the same prompts for the same merchants from the same noise, group by group in turns, so that their times
compare on any machine, and each group's time is a measurement of its own. Prompt accuracy is read from the pictures by
CLIP. Knows families, tables and reward models; decides nothing.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from contract.prompts import folded
from contract.vocabulary import Vocabulary
from training.common.metrics import average_precision, group_auc, rank_metrics
from training.common.objectives import reward_cross_entropy
from training.data.groups import GroupError, GroupTensors
from training.data.load import reward_groups
from training.data.table import Group, check_schema, read_schema, read_table, write_table
from training.generator.drawing import Generator
from training.generator.evaluation import RewardOnTable, diversity, noise_of
from training.generator.evaluation import Size as Drawn
from training.models.family import FamilyPaths
from training.retraining.hold_out import Size, Split
from training.retraining.judges import for_the_judge, given_judge, trained_judge
from training.retraining.mixture import informative
from training.retraining.offline_gate import Compared, GateMargins, HeldOut, compared_samples, look_random, rated
from training.retraining.verdicts import interval_text
from training.reward.scores import RewardScorer
from training.wishes.preferences import PreferenceWeights
from training.wishes.tagging import ABSENT, Tagger, tag_vectors


@dataclass(frozen=True)
class Measured:
    """Everything that a decision needs."""

    held_out: HeldOut
    compared: Mapping[str, Compared]
    problems: list[str]
    judge_gauc: float
    figures: Mapping[str, Any]  # beside the compared ones


class Measuring:
    """The held-out groups of a split, prepared for both families."""

    def __init__(self, table: Path, split: Split, roots: tuple[Path, Path], size: Size, work: Path) -> None:
        """
        Args:
            roots: the live family and the candidate.
            work: a folder for what is prepared, which nobody needs afterwards.
        """
        self.size, self.roots, self.work = size, roots, work
        self.families = tuple(FamilyPaths.under(root) for root in roots)
        for root, family in zip(roots, self.families, strict=True):
            check_schema(table, family.schema(), str(root / "feature_schema.json"))
        self.table, self.split = table, split
        self.groups = self._prepared(split.held_out, "held_out")
        by_id = {group.group_id: group for group in split.held_out}
        self.rows = [by_id[group_id] for group_id in np.asarray(self.groups.group_ids).tolist()]
        self.user_ids = np.array([group.user_id for group in self.rows])
        self.vocabulary = self.families[0].vocabulary()
        self.tagger = Tagger(self.families[0], self.vocabulary)

    def all(self, judge: Path | None, margins: GateMargins) -> Measured:
        """Every figure; `judge` None trains one on half of the merchants."""
        judged = np.ones(len(self.rows), bool) if judge else ~for_the_judge(self.user_ids)
        if judge:
            scorer, family = given_judge(judge, self.families, self.roots, [group.group_id for group in self.rows])
        else:
            family = self.families[0]
            scorer = trained_judge(self.groups.rows(np.flatnonzero(~judged)), family, self.work / "judge")
        unseen = self._read_by(family).rows(np.flatnonzero(judged))
        judge_gauc = rank_metrics(scorer.all(unseen), np.asarray(unseen.selected), unseen.there).gauc
        compared = self._picks() | self._drawn(np.flatnonzero(judged)[-self.size.drawn :], scorer, family)
        problems, agreement = self._agreement(margins)
        problems += self._without_reward_model()
        figures = {"judge_gauc": judge_gauc, "groups_not_readable": len(self.split.held_out) - len(self.rows)}
        return Measured(self._whose(), compared, problems, judge_gauc, figures | agreement)

    # ---- picks -------------------------------------------------------------------------------

    def _picks(self) -> dict[str, Compared]:
        """How both families rank and explain the held-out picks."""
        rows = np.arange(len(self.rows))
        selected, there = np.asarray(self.groups.selected), self.groups.there
        found = dict[str, Compared]()
        if all(family.perfusion_rm.exists() for family in self.families):
            scores = [RewardScorer.of(family).all(self._read_by(family)) for family in self.families]
            for name, metric in (("reward_gauc", group_auc), ("reward_map", average_precision)):
                found[name] = Compared(rows, *(metric(values, selected, there) for values in scores))
        tags = self._tags(np.asarray(self.groups.images))
        found["favours"] = Compared(rows, *(self._losses(family, tags) for family in self.families))
        return found

    def _without_reward_model(self) -> list[str]:
        """That only one of the families has a reward model of its own, as a sentence: nothing compares it then."""
        lacking = [
            root for root, family in zip(self.roots, self.families, strict=True) if not family.perfusion_rm.exists()
        ]
        if len(lacking) != 1:
            return []
        return [f"{lacking[0]} has no reward model of its own and the other family has one, so they cannot be compared"]

    def _losses(self, family: FamilyPaths, tags: np.ndarray) -> np.ndarray:
        """Cross-entropy of the picks by a family's favours, in nats, (N,); without favours all candidates are alike."""
        favours = torch.zeros(len(self.groups), len(self.vocabulary.phrases))
        if family.preferences.exists():
            weights = PreferenceWeights.load(family.preferences, family.schema(), self.vocabulary)
            favours = torch.from_numpy(weights.of(np.array(self.groups.features)))
        utility = torch.einsum("nkv,nv->nk", tag_vectors(tags, self.vocabulary.sizes), favours)
        selected, there = torch.tensor(np.array(self.groups.selected)), torch.tensor(self.groups.there)
        return reward_cross_entropy(utility, selected, there).numpy()

    # ---- pictures ----------------------------------------------------------------------------

    def _drawn(self, rows: np.ndarray, judge: RewardScorer, of_judge: FamilyPaths) -> dict[str, Compared]:
        """What both families draw for these rows of the held-out groups."""
        groups, shown = [self.rows[row] for row in rows], self.groups.rows(rows)
        prompts = [group.prompt for group in groups]
        pictures, seconds = self._draw(prompts, groups)
        judging = RewardOnTable("judge", judge, of_judge, shown)
        by_judge = [judging.scores(prompts, drawn) for drawn in pictures]  # each (G, K)
        found = {
            "prompt_accuracy": _where_asked(rows, *(self._accuracy(prompts, drawn) for drawn in pictures)),
            "diversity": Compared(rows, *(diversity(judging, drawn) for drawn in pictures)),
            "judge_score": _in_deviations(rows, *by_judge),
            "latency": Compared(rows, *seconds),
        }
        own = self.families[1]
        if own.perfusion_rm.exists():
            reward = RewardOnTable("reward", RewardScorer.of(own), own, shown)
            found["reward"] = _in_deviations(rows, *(reward.scores(prompts, drawn) for drawn in pictures))
        return found

    def _draw(self, prompts: Sequence[str], groups: Sequence[Group]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Pictures (G, K, H, W, 3) of each family, and its seconds for each group (G,)."""
        generators = [Generator(family) for family in self.families]
        if len({generator.artist.latent_shape for generator in generators}) > 1:
            raise GroupError("the families draw latents of different shapes, so they cannot draw from the same noise")
        noise = noise_of(generators[0], len(groups), Drawn(len(groups), self.size.candidates, self.size.seed))
        profiles = np.array([read_schema(self.table).encode(group.features).slots for group in groups], np.int64)
        drawn: list[list[np.ndarray]] = [[], []]
        seconds: list[list[float]] = [[], []]
        for number, row in enumerate([0, *range(len(groups))]):  # the first one warms up
            for who in (0, 1) if number % 2 else (1, 0):
                began, one = _clock(), slice(row, row + 1)
                found = generators[who].draw([prompts[row]], profiles[one], noise[one], None)
                if number:
                    drawn[who].append(found)
                    seconds[who].append(_clock() - began)
        return [np.concatenate(parts) for parts in drawn], [np.array(of) for of in seconds]

    def _accuracy(self, prompts: Sequence[str], pictures: np.ndarray) -> np.ndarray:
        """The share of the asked-for phrases that CLIP sees in pictures (G, K, H, W, 3), mean over K, (G,); NaN where a
        prompt asks for none."""
        tags = self._tags(pictures)  # (G, K, kinds)
        asked = np.stack([asked_tags(self.vocabulary, prompt) for prompt in prompts])[:, None]  # (G, 1, kinds)
        named = asked != ABSENT
        hits, n_named = ((tags == asked) & named).sum(-1).mean(1), named.sum((1, 2))
        return np.where(n_named > 0, hits / np.maximum(1, n_named), np.nan)

    def _tags(self, pictures: np.ndarray) -> np.ndarray:
        """What pictures (G, K, H, W, 3) show, as tags (G, K, kinds)."""
        return self.tagger(pictures.reshape(-1, *pictures.shape[2:])).reshape(*pictures.shape[:2], -1)

    # ---- whether the picks that the candidate learnt from can be believed --------------------

    def _agreement(self, margins: GateMargins) -> tuple[list[str], dict[str, Any]]:
        """How well the live reward model ranks the newest picks that trained, against the held-out ones, which neither
        family has seen; and how well the place alone does."""
        live = self.families[0]
        new = [group for group in self.split.new if informative(group)][-self.size.checked :]
        if not self.size.checked or not new or not live.perfusion_rm.exists():
            return [], {}
        scorer = RewardScorer.of(live)
        by_reward, by_place, merchants = self._ranked(self._prepared(new, "new"), scorer)
        held_out, _, whose = self._ranked(self.groups, scorer)
        less, places = compared_samples((by_reward, merchants), (held_out, whose)), rated(by_place, merchants)
        newly, honestly = rated(by_reward, merchants), rated(held_out, whose)
        figures = {
            "picks_of_new_groups": newly, "picks_of_held_out_groups": honestly,
            "picks_of_new_against_held_out_groups": less, "places_of_new_groups": places,
        }  # fmt: skip
        problems, which = list[str](), f"the picks of the {len(new)} newest groups that the candidate was trained on"
        if look_random(newly, honestly, less, margins.agreement):
            problems.append(
                f"{which} follow the live reward model less than held-out ones do: GAUC differs by "
                f"{interval_text(less)}, margin {margins.agreement:g}: they look as if they were made at random"
            )
        if places["low"] > margins.most_place_gauc:
            problems.append(
                f"{which} follow the place with a GAUC of {places['mean']:.3f}, {margins.most_place_gauc:g} is "
                "allowed: they say nothing of pictures"
            )
        return problems, figures

    def _ranked(self, groups: GroupTensors, scorer: RewardScorer) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """GAUC of each group's picks by the reward model, and by the place; and the merchants; all (G,)."""
        groups = groups.rows(groups.rows_with(negatives=True))
        selected, there = np.asarray(groups.selected), groups.there
        places = np.broadcast_to(-np.arange(selected.shape[1], dtype=float), selected.shape)
        by_reward = group_auc(scorer.all(groups), selected, there)
        return by_reward, group_auc(places, selected, there), np.asarray(groups.user_ids)

    # ---- groups ------------------------------------------------------------------------------

    def _prepared(self, groups: Sequence[Group], name: str) -> GroupTensors:
        """These groups by themselves, as the live family's reward model reads them."""
        wanted = {group.group_id for group in groups}
        rows = (group for group in read_table(self.table) if group.group_id in wanted)
        write_table(self.work / name, rows, read_schema(self.table))
        return self._read_by(self.families[0], name)

    def _read_by(self, family: FamilyPaths, name: str = "held_out") -> GroupTensors:
        """The groups in the size and tokens of a family's reward model."""
        return reward_groups(self.work / name, family, self.work / "prepared", quiet=True)

    def _whose(self) -> HeldOut:
        """The merchants, and the segments: categories of the prompts, and merchants that no training has seen."""
        merchants = np.unique(self.user_ids, return_inverse=True)[1]
        categories = np.array(
            [self.vocabulary.asked(group.prompt).get(self.vocabulary.category.name, "") for group in self.rows]
        )
        segments = {f"category {name}": categories == name for name in sorted(set(categories.tolist()) - {""})}
        new = np.array([user_id not in self.split.known for user_id in self.user_ids.tolist()])
        return HeldOut(merchants, segments | {"new merchants": new})


def asked_tags(vocabulary: Vocabulary, prompt: str) -> np.ndarray:
    """The phrase that a prompt asks for of each kind, as tags (kinds,); ABSENT where it leaves the kind open."""
    asked = vocabulary.asked(prompt)
    places = [{folded(phrase): place for place, phrase in enumerate(kind.phrases)} for kind in vocabulary.kinds]
    return np.array(
        [of.get(asked.get(kind.name, ""), ABSENT) for kind, of in zip(vocabulary.kinds, places, strict=True)], np.int64
    )


def _where_asked(rows: np.ndarray, live: np.ndarray, candidate: np.ndarray) -> Compared:
    """Without the prompts that ask for no phrase, where both families would be equal whatever they draw."""
    asks = ~np.isnan(live)
    return Compared(rows[asks], live[asks], candidate[asks])


def _in_deviations(rows: np.ndarray, live: np.ndarray, candidate: np.ndarray) -> Compared:
    """Scores (G, K) as means over K, in standard deviations of the live family's."""
    spread = float(live.std()) or 1.0
    return Compared(rows, live.mean(1) / spread, candidate.mean(1) / spread)


def _clock() -> float:
    """Seconds that drawing takes: of this process on a CPU, whatever else runs there, and of the wall on a GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()
