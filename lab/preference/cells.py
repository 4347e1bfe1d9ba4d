"""The preference table's cells: a training of a reward model each, a process of its own, computed once.

`python -m lab.preference.table` is the command. Knows sets, recipes and scores; no command line, no reports.
"""

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from transformers import CLIPModel, CLIPTokenizer

from lab.jobs import Job, run_jobs, threads_of_each
from lab.market.table import MarketRecipe, write_market
from lab.preference.report import RoundsWithTruth
from lab.preference.sets import CURVE_SEEDS, LEARNING_CURVE, TEST, TRAINING
from lab.pretraining import train_blip, train_clip
from training.common.errors import ModelError
from training.common.storage import load_pretrained
from training.data.groups import GroupTensors
from training.data.prepare import prepare
from training.models.family import TINY, FamilyPaths
from training.models.preprocess import Preprocess
from training.reward.baselines.image_reward import ImageReward
from training.reward.models import Starts, load_blip, save
from training.reward.recipes import VARIANTS, Model, RewardRecipe, tiny
from training.reward.training import train


@dataclass(frozen=True)
class Cell:
    """One training: which set, which model, which seed, and of how many groups (None: all)."""

    set: str
    model: Model
    seed: int
    groups: int | None = None

    @property
    def name(self) -> str:
        of = f"-{self.groups}" if self.groups else ""
        return f"{self.set}{of}-{self.model}-{self.seed}"


# ---- the sets ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Bench:
    """The sets and the pre-trained models that all cells share, each made once under `work`."""

    work: Path

    @cached_property
    def tokenizer(self) -> CLIPTokenizer:
        return FamilyPaths.under(TINY).reward_tokenizer()

    @cached_property
    def clip(self) -> CLIPModel:
        """The tiny CLIP, pre-trained on captions."""
        path = self.work / "clip" / "model"
        if not path.exists():
            train_clip.train(train_clip.ClipRecipe(), self.tokenizer, path.parent, self.data).save_pretrained(path)
        return _load_clip(path)

    @cached_property
    def blip(self) -> ImageReward:
        """The tiny BLIP, pre-trained on captions."""
        path = self.work / "blip" / "model"
        if not path.exists():
            save(train_blip.train(train_blip.BlipRecipe(), self.tokenizer, path.parent, self.data), path)
        return load_blip(path, train_blip.build(self.tokenizer))

    @property
    def data(self) -> Path:
        return self.work / "data"

    @property
    def preprocess(self) -> Preprocess:
        config = {"image_mean": train_clip.IMAGE_MEAN, "image_std": train_clip.IMAGE_STD}
        return Preprocess(config, self.clip.config.vision_config.image_size)

    def training_groups(self, name: str) -> GroupTensors:
        return self._groups(name, TRAINING[name])

    def test_groups(self, name: str) -> dict[str, GroupTensors]:
        return {test: self._groups(f"{test}_test", recipe) for test, recipe in TEST[name].items()}

    def tests(self, sets: Sequence[str]) -> dict[str, RoundsWithTruth]:
        """The test sets of these sets with their truth."""
        return {
            test: RoundsWithTruth.of(groups, self.data / f"{test}_test")
            for name in sets
            for test, groups in self.test_groups(name).items()
        }

    def _groups(self, name: str, recipe: MarketRecipe) -> GroupTensors:
        write_market(self.data / name, recipe)
        size_px = self.clip.config.vision_config.image_size
        return prepare(self.data / name, self.data / "prepared", self.tokenizer, size_px)

    def make_ready(self, sets: Sequence[str]) -> None:
        """Everything that cells only read."""
        _ = self.clip, self.blip
        for name in sets:
            self.training_groups(name)
            self.test_groups(name)


def _load_clip(path: Path) -> CLIPModel:
    """Frozen; plain attention, which is the fastest for 17 tokens on a CPU."""
    return load_pretrained(CLIPModel, path, attn_implementation="eager")


# ---- one cell ----------------------------------------------------------------------------------


def recipe_of(cell: Cell) -> RewardRecipe:
    """The tiny recipe; fewer steps where there are fewer groups."""
    recipe = replace(tiny(cell.model), seed=cell.seed)
    if cell.set == "pickapic_like":
        return replace(recipe, steps=recipe.steps // 2, embed_dim=64)
    return replace(recipe, steps=min(recipe.steps, max(200, cell.groups // 60))) if cell.groups else recipe


def run_cell(bench: Bench, cell: Cell) -> None:
    """Trains the cell's model and keeps the scores of its test sets, its users' own and shuffled."""
    out = bench.work / "runs" / cell.name
    groups = bench.training_groups(cell.set)
    recipe = recipe_of(cell)
    if cell.groups:  # the held-out groups at the end stay the same
        groups = groups.rows(np.r_[: cell.groups, len(groups) - recipe.held_out : len(groups)])
    starts = Starts(bench.clip, bench.blip if cell.model == "imagereward" else None)
    scorer = train(recipe, groups, starts, bench.preprocess, out)
    scores = {}
    for name, test in bench.test_groups(cell.set).items():
        scores[name] = scorer.all(test)
        if name == "industrial":  # baselines ignore the features, so shuffling does not change their scores
            others = _shuffled(test, cell.seed)
            scores["industrial_shuffled"] = scorer.all(test, others) if cell.model in VARIANTS else scores[name]
    np.savez(out / "scores.new.npz", **scores)
    os.replace(out / "scores.new.npz", out / "scores.npz")


def _shuffled(groups: GroupTensors, seed: int) -> np.ndarray:
    """Every group with the features of another user."""
    rng = np.random.default_rng((seed, 41))
    return np.asarray(groups.features)[rng.permutation(len(groups))]


# ---- all cells ---------------------------------------------------------------------------------


def cells(models: Sequence[Model], seeds: Sequence[int], sets: Sequence[str], curve: bool) -> list[Cell]:
    """Seed by seed, so that an unfinished table has whole seeds; the learning curve last."""
    rows = [Cell(name, model, seed) for seed in seeds for name in sets for model in models]
    fewer = LEARNING_CURVE if curve else ()
    smaller = [Cell("industrial", "perfusion_rm", seed, n) for seed in seeds[:CURVE_SEEDS] for n in fewer]
    return [*rows, *(smaller if "industrial" in sets else [])]


def run_all(bench: Bench, wanted: Sequence[Cell], jobs: int) -> None:
    """Runs what is not finished, `jobs` processes at a time, each with its share of the cores."""
    left = [_job(bench, cell, jobs) for cell in wanted if not _is_done(bench, cell)]
    run_jobs(left, jobs, total=len(wanted))


def _is_done(bench: Bench, cell: Cell) -> bool:
    """Whether its scores exist, made with the current recipe.

    Raises:
        ModelError: they were made with another recipe, and a table must not mix the two.
    """
    out = bench.work / "runs" / cell.name
    if not (out / "scores.npz").exists():
        return False
    if json.loads((out / "result.json").read_text())["recipe"] != asdict(recipe_of(cell)):
        raise ModelError(f"{out} was made with another recipe; remove it, or choose another --work")
    return True


def _job(bench: Bench, cell: Cell, jobs: int) -> Job:
    options = ("--work", str(bench.work), "--threads", str(threads_of_each(jobs)))
    which = ("--cell", cell.set, cell.model, str(cell.seed), str(cell.groups or 0))
    command = (sys.executable, "-m", "lab.preference.table", *options, *which)
    return Job(f"cell {cell.name}", command, bench.work / "runs" / cell.name / "output.log")
