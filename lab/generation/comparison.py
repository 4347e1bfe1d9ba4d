"""A release's pictures drawn by several samplers, and what each is worth beside the first, by the truth.

`python -m lab.generation.samplers` is the command.
"""

import argparse
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from contract.wishes import VARIETY
from lab.generation.artist import for_each
from lab.generation.names import Split
from lab.generation.served import ServedArtist
from lab.generation.splits import Rounds, Size
from lab.generation.worth import by_truth, mean_over_pairs, shown_on, true_utility
from lab.recogniser.recogniser import JUDGE, Recogniser
from training.common.reports import write_report
from training.common.resampling import interval
from training.common.runs import make_run_dir
from training.common.storage import fingerprint
from training.data.load import kept
from training.models.family import TINY, FamilyPaths, hush_libraries
from training.wishes.preferences import PreferenceWeights

METRICS = ("true_utility", "below_reference", "best_in_group", "prompt_accuracy", "diversity", "other_merchant")
Way = tuple[str, int, int | None]  # sampler, steps, release; None: the newest one
COST_ROUNDS, COST_CANDIDATES = 12, 5


def artist_of(way: Way, repository: Path, family: FamilyPaths) -> ServedArtist:
    """A release that draws so."""
    sampler, steps, release = way
    artist = ServedArtist(repository, family, number=release)
    artist.how = replace(artist.how, sampler=sampler, num_steps=steps)
    return artist


def name_of(way: Way) -> str:
    """As it is asked for."""
    sampler, steps, release = way
    return f"{sampler}:{steps}" + ("" if release is None else f"@{release}")


def shown_by(artist: ServedArtist, rounds: Rounds, split: Split, work: Path) -> np.ndarray:
    """What a release's pictures of these rounds show, int8 (M, P, K, kinds), drawn now unless they were before."""
    family, how = artist.family, artist.how
    preferences = PreferenceWeights.load(family.preferences, family.schema(), family.vocabulary())
    size = "-".join(map(str, (split, *vars(rounds.size).values())))
    denoiser = artist.release.manifest.models["denoiser"].fingerprint[:8]
    drawn_with = f"{denoiser}-{how.adapter_scale:g}-{VARIETY:g}-{size}-{fingerprint(preferences)}"
    name = f"{how.sampler}-{how.num_steps}-{drawn_with}"

    def drawn() -> np.ndarray:
        noise = rounds.noise(0, artist.latent_shape, rounds.size.candidates)
        return shown_on(for_each(artist, rounds, noise, preferences), Recogniser.load(JUDGE))

    return kept(work / f"{name}.npy", drawn)


def compare(rounds: Rounds, shown: dict[str, np.ndarray]) -> dict[str, Any]:
    """The report, by way; the first one is the reference."""
    mean, found = mean_over_pairs(rounds), {name: by_truth(rounds, pictures) for name, pictures in shown.items()}
    reference = next(iter(found.values()))["true_utility"]
    partner = np.arange(len(rounds.merchants)) ^ 1
    others = {name: true_utility(rounds, pictures[partner]) for name, pictures in shown.items()}
    rows = {
        name: {"below_reference": reference - of["true_utility"], "other_merchant": others[name]} | of
        for name, of in found.items()
    }
    return {name: {metric: interval(*mean(row[metric])) for metric in METRICS} for name, row in rows.items()}


def cpu_seconds(ways: Mapping[str, ServedArtist]) -> dict[str, float]:
    """CPU time of the denoiser's calls a picture, by way: the median of rounds that the ways take in turns."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(COST_ROUNDS + 1):
        for name, artist in ways.items():
            noise = torch.randn(COST_CANDIDATES, *artist.latent_shape, generator=torch.Generator().manual_seed(number))
            text = artist.no_text.expand(COST_CANDIDATES, -1, -1)
            features = torch.zeros(COST_CANDIDATES, artist.family.schema().n_slots, dtype=torch.long)
            inputs, began = artist.inputs(text, features), time.process_time()
            artist.denoise(noise, inputs)
            seconds[name].append((time.process_time() - began) / COST_CANDIDATES)
    return {name: float(np.median(of_rounds[1:])) for name, of_rounds in seconds.items()}  # the first one warms up


def run(arguments: argparse.Namespace) -> None:
    """The command."""
    hush_libraries()
    make_run_dir(arguments.work)
    rounds, shown = Rounds.of(arguments.split, Size(*arguments.size)), dict[str, np.ndarray]()
    family = FamilyPaths.under(TINY)
    ways = {name_of(way): artist_of(way, arguments.repository, family) for way in arguments.how}
    costs = cpu_seconds(ways)
    for name, artist in ways.items():
        shown[name] = shown_by(artist, rounds, arguments.split, arguments.work)
        found = compare(rounds, shown)
        report = {way: row | {"denoiser_cpu_s_a_picture": costs[way]} for way, row in found.items()}
        write_report(arguments.out, report)  # after each, for they take long
    print(f"{'':<18}" + "".join(f"{name.replace('_', ' '):>24}" for name in METRICS) + f"{'denoiser, CPU s':>24}")
    for name, row in found.items():
        cells = "".join(f"{v['mean']:>10.3f} [{v['low']:.3f}, {v['high']:.3f}]" for v in row.values())
        print(f"{name:<18}{cells}{costs[name]:>24.4f}")
