"""A release's pictures drawn by several samplers, and what each is worth beside the first, by the truth.

`python -m lab.generation.samplers` is the command.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from contract.wishes import VARIETY
from lab.generation.artist import for_each
from lab.generation.served import ServedArtist
from lab.generation.splits import Rounds, Size
from lab.generation.worth import by_truth, mean_over_pairs, shown_on
from lab.recogniser.recogniser import JUDGE, Recogniser
from training.common.reports import write_report
from training.common.resampling import interval
from training.common.runs import make_run_dir
from training.common.storage import fingerprint
from training.data.load import kept
from training.models.family import TINY, FamilyPaths, hush_libraries
from training.wishes.preferences import PreferenceWeights

METRICS = ("true_utility", "below_reference", "best_in_group", "prompt_accuracy", "diversity")


def shown_by(sampler: str, steps: int, rounds: Rounds, repository: Path, work: Path) -> np.ndarray:
    """What the release's pictures of these rounds show, int8 (M, P, K, kinds), drawn now unless they were before."""
    family = FamilyPaths.under(TINY)
    preferences = PreferenceWeights.load(family.preferences, family.schema(), family.vocabulary())
    artist = ServedArtist(repository, family)
    artist.how = replace(artist.how, sampler=sampler, num_steps=steps)
    size = "-".join(map(str, vars(rounds.size).values()))
    name = f"{sampler}-{steps}-{artist.how.adapter_scale:g}-{VARIETY:g}-{size}-{fingerprint(preferences)}"

    def drawn() -> np.ndarray:
        noise = rounds.noise(0, artist.latent_shape, rounds.size.candidates)
        return shown_on(for_each(artist, rounds, noise, preferences), Recogniser.load(JUDGE))

    return kept(work / f"{name}.npy", drawn)


def compare(rounds: Rounds, shown: dict[str, np.ndarray]) -> dict[str, Any]:
    """The report, by way; the first one is the reference."""
    mean, found = mean_over_pairs(rounds), {name: by_truth(rounds, pictures) for name, pictures in shown.items()}
    reference = next(iter(found.values()))["true_utility"]
    rows = {name: {"below_reference": reference - of["true_utility"]} | of for name, of in found.items()}
    return {name: {metric: interval(*mean(row[metric])) for metric in METRICS} for name, row in rows.items()}


def run(arguments: argparse.Namespace) -> None:
    """The command."""
    hush_libraries()
    make_run_dir(arguments.work)
    rounds = Rounds.of("seen", Size(*arguments.size))
    shown: dict[str, np.ndarray] = {}
    for sampler, steps in arguments.how:
        shown[f"{sampler}:{steps}"] = shown_by(sampler, steps, rounds, arguments.repository, arguments.work)
        found = compare(rounds, shown)
        write_report(arguments.out, found)  # after each, for they take long
    print(f"{'':<18}" + "".join(f"{name.replace('_', ' '):>24}" for name in METRICS))
    for name, row in found.items():
        print(f"{name:<18}" + "".join(f"{v['mean']:>10.3f} [{v['low']:.3f}, {v['high']:.3f}]" for v in row.values()))
