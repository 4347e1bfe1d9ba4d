"""The generation table's cells: every training and every drawing, each a process of its own, computed once.

`python -m lab.generation.table` is the command. Knows methods, splits and judges; no command line, no reports.
"""

import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from contract.wishes import VARIETY
from lab.generation.artist import Artist, Drawing, for_each, for_unknown
from lab.generation.methods import (
    CHAINS,
    PERSONAL,
    Chain,
    base_of,
    is_trained,
    policy_of,
    stamp,
)
from lab.generation.names import Method, Split
from lab.generation.pmg import draw_with_keywords
from lab.generation.splits import Rounds, Size
from lab.generation.worth import READS_USER, REWARDS, SCORES, Judges
from lab.jobs import Job, run_jobs, threads_of_each
from lab.market.drawing import SIZE_PX
from lab.market.table import MarketRecipe, write_market
from lab.preference import cells as preference
from lab.recogniser.recogniser import JUDGE
from training.common.errors import ModelError
from training.common.storage import fingerprint
from training.data.groups import GroupTensors
from training.data.load import with_latents
from training.data.prepare import prepare
from training.models.family import FamilyPaths
from training.reward.recipes import Model
from training.wishes.preferences import PreferenceWeights

MARKET = MarketRecipe(groups=16_000)  # what generators train on
ONLY: Mapping[str, Collection[Method]] = {  # splits that only these methods draw
    "permuted": ("dpo", "perfusion", "perfusion_plus"),
}
BEST = "best"  # the cell of the DPO pictures among which the truth may choose
SHEET = 8  # merchants on the contact sheet


@dataclass(frozen=True)
class Bench:
    """The data and the models that all cells share, each made once under `work`."""

    work: Path
    family: FamilyPaths
    size: Size

    @property
    def runs(self) -> Path:
        return self.work / "runs"

    @property
    def data(self) -> Path:
        return self.work / "data"

    @cached_property
    def plain(self) -> GroupTensors:
        """Rounds of the market with pictures."""
        write_market(self.data / "market", MARKET)
        return prepare(self.data / "market", self.data / "prepared", self.family.tokenizer(), SIZE_PX)

    @cached_property
    def groups(self) -> GroupTensors:
        """The same with latents."""
        return with_latents(self.plain, self.family.vae(), self.data / "prepared")

    @cached_property
    def base(self) -> str:
        """The hash of data and starting weights, for every chain's stamp."""
        return base_of(self.groups, self.family)

    @cached_property
    def preferences(self) -> PreferenceWeights:
        """The family's preference weights, for perfusion_plus's wishes; the same for all seeds."""
        return PreferenceWeights.load(self.family.preferences, self.family.schema(), self.family.vocabulary())

    @cached_property
    def judges(self) -> Judges:
        """Reward models of the preference table on the backbone that they were trained on."""
        bench = preference.Bench(preference.WORK)
        trained = {name: self._reward(bench, model) for name, model in REWARDS.items()}
        return Judges.of(self.family, JUDGE, bench.clip, trained)

    @cached_property
    def judged_by(self) -> str:
        """The hash of the judges, in every cell."""
        return self.judges.fingerprint()

    def _reward(self, bench: preference.Bench, model: Model) -> Path:
        """The reward model's path in the preference table, trained now if it is absent."""
        path = bench.work / "runs" / f"industrial-{model}-0"
        if not (path / "scores.npz").exists():
            preference.run_cell(bench, preference.Cell("industrial", model, 0))
        return path / model

    def make_ready(self) -> None:
        """Everything that cells only read."""
        _ = self.groups, self.judges


# ---- what there is to do -----------------------------------------------------------------------


def chains_of(methods: Sequence[Method]) -> list[list[Chain]]:
    """Every chain that these methods need, and every beginning of one, shortest first, level by level."""
    whole = {CHAINS[method] for method in methods}
    parts = {chain[:n] for chain in whole for n in range(1, len(chain) + 1)}
    deepest = max((len(chain) for chain in parts), default=0)
    return [sorted(chain for chain in parts if len(chain) == n) for n in range(1, deepest + 1)]


def drawings_of(methods: Sequence[Method], splits: Sequence[Split]) -> list[tuple[str, Method]]:
    """(split, method) of every cell."""
    cells: list[tuple[str, Method]] = [(BEST, "dpo")] if "dpo" in methods and {"seen", "unseen"} & set(splits) else []
    for split in splits:
        cells += [(split, method) for method in methods if split not in ONLY or method in ONLY[split]]
    return cells


def cell_path(bench: Bench, split: str, method: Method, seed: int) -> Path:
    return bench.work / "drawn" / f"{split}-{method}-{seed}.npz"


def run_all(bench: Bench, methods: Sequence[Method], seeds: Sequence[int], splits: Sequence[Split], jobs: int) -> None:
    """Trains level by level, then draws."""
    for level in chains_of(methods):
        wanted = [(chain, seed) for seed in seeds for chain in level]
        left = [(chain, seed) for chain, seed in wanted if not is_trained(bench.runs, chain, seed, bench.base)]
        trainings = [_job(bench, jobs, "-".join(chain), seed, ("--train", *chain)) for chain, seed in left]
        run_jobs(trainings, jobs, total=len(wanted), desc="trainings")
    cells = [(split, method, seed) for seed in seeds for split, method in drawings_of(methods, splits)]
    drawn = [
        _job(bench, jobs, f"{split}-{method}", seed, ("--draw", split, method))
        for split, method, seed in cells
        if not _is_drawn(bench, split, method, seed)
    ]
    run_jobs(drawn, jobs, total=len(cells), desc="drawings")


def _is_drawn(bench: Bench, split: str, method: Method, seed: int) -> bool:
    """Whether a cell is finished.

    Raises:
        ModelError: another training, other settings or other judges made it; a table must not mix the two.
    """
    path = cell_path(bench, split, method, seed)
    if not path.exists():
        return False
    cell = np.load(path)
    if (str(cell["made_with"]), str(cell["judged_by"])) != (_made_with(bench, method, seed), bench.judged_by):
        raise ModelError(
            f"{path} was drawn by another training or in another way, or judged by other models; "
            "remove it, or choose another --work"
        )
    return True


def _made_with(bench: Bench, method: Method, seed: int) -> str:
    chain = CHAINS[method]
    wished = f" variety {VARIETY} {fingerprint(bench.preferences)}" if method == "perfusion_plus" else ""
    return f"{stamp(chain, seed, bench.base)} {how_of(bench, method)}{wished} {bench.size}"


def how_of(bench: Bench, method: Method) -> Drawing:
    """All methods draw alike; wishes count as much as in the release."""
    scale = bench.family.request_defaults().adapter_scale if method == "perfusion_plus" else 1.0
    return Drawing(adapter_scale=scale)


def _job(bench: Bench, at_once: int, name: str, seed: int, what: Sequence[str]) -> Job:
    size = [f"{value}" for value in vars(bench.size).values()]
    options = ("--work", str(bench.work), "--size", *size, "--threads", str(threads_of_each(at_once)))
    command = (sys.executable, "-m", "lab.generation.table", *options, "--seeds", str(seed), *what)
    return Job(f"{name}, seed {seed}", command, bench.work / "logs" / f"{name}-{seed}.log")


# ---- one cell ----------------------------------------------------------------------------------


def draw(bench: Bench, split: str, method: Method, seed: int) -> None:
    """Draws a method's pictures for a split and keeps their attributes and scores."""
    path = cell_path(bench, split, method, seed)
    artist = Artist(policy_of(method, bench.family, bench.runs, seed), bench.family, how_of(bench, method))
    if split == BEST:
        rounds = Rounds.of("seen", bench.size)
        noise = rounds.noise(seed, artist.latent_shape, bench.size.best_of)
        found = {"shown": bench.judges.read(for_unknown(artist, rounds, noise))}  # (N, best_of, kinds)
    else:
        rounds = Rounds.of(split, bench.size)  # type: ignore[arg-type]  # one of SPLITS
        images = drawn_for(bench, artist, method, rounds, seed)  # all merchants', or the pool's
        shown, shared = bench.judges.read(images), images.ndim == 5
        sheet = images[rounds.given[:SHEET, 0], 0] if shared else images[:SHEET, 0, 0]
        found = {"shown": shown[rounds.given] if shared else shown, "sheet": sheet}
        found |= bench.judges.scores(rounds, images)
        if split == "seen":
            to_others = found | bench.judges.scores(Rounds.of("shuffled", bench.size), images, READS_USER)
            found |= {f"shuffled_{name}": to_others[name] for name in SCORES}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")  # no other process writes it
    with unfinished.open("wb") as file:
        made = {"made_with": _made_with(bench, method, seed), "judged_by": bench.judged_by}
        np.savez_compressed(file, **made, **found)
    unfinished.replace(path)


def drawn_for(bench: Bench, artist: Artist, method: Method, rounds: Rounds, seed: int) -> np.ndarray:
    """Pictures (M, P, K, H, W, 3); for a method without the merchant those of the pool, (N, K, H, W, 3)."""
    noise = rounds.noise(seed, artist.latent_shape, rounds.size.candidates)  # (N, K, C, S, S)
    if method not in PERSONAL:
        return for_unknown(artist, rounds, noise)
    if method == "pmg":
        return draw_with_keywords(artist, bench.judges, rounds, noise)
    return for_each(artist, rounds, noise, bench.preferences if method == "perfusion_plus" else None)
