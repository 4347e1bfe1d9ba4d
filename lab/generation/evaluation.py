"""What a generator is worth to merchants of the simulated market: drawn, read by the judge, compared.

`python -m lab.generation.evaluate` is the command, and says what is measured.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from lab.generation.artist import Artist, Drawing, Draws, for_each, for_unknown
from lab.generation.names import Split
from lab.generation.served import ServedArtist
from lab.generation.splits import Rounds, Size
from lab.generation.worth import by_truth, mean_over_pairs, shown_on, true_utility
from lab.market.drawing import SIZE_PX
from lab.recogniser.recogniser import JUDGE, Recogniser
from training.common.errors import ModelError
from training.common.reports import write_report
from training.common.resampling import interval
from training.models.distilled import Distilled, check_undistilled
from training.models.family import FamilyPaths, hush_libraries
from training.models.frozen_unet import load_unet
from training.models.policies import Policy, to_draw_with
from training.wishes.preferences import PreferenceWeights

METRICS = ("true_utility", "best_in_group", "prompt_accuracy", "diversity")


def try_generator(
    artist: Draws,
    plain: Draws,
    recogniser: Recogniser,
    split: Split,
    size: Size,
    seed: int = 0,
    *,
    preferences: PreferenceWeights | None = None,
) -> dict[str, Any]:
    """Every number with its 95 % interval over pairs of merchants, as JSON values.

    Args:
        artist, plain: what is tried, and what it is compared with, for an unknown merchant.
        preferences: of the wishes that `artist` draws with; None: without.

    Returns:
        rows: of `artist` and `plain` METRICS; what artist drew for the other of the pair: true_utility of other_user.
        best_of_plain: the utility of the best of size.best_of plain pictures, chosen by the truth.
        taste_captured: (artist's utility − plain's) / (best_of_plain − plain's).
        win_rate: of artist's pictures against plain ones of the same noise; a tie is half a win.
    """
    rounds, k = Rounds.of(split, size), size.candidates
    noise = rounds.noise(seed, artist.latent_shape, max(size.best_of, k))
    shown = shown_on(for_each(artist, rounds, noise[:, :k], preferences), recogniser)
    pool = shown_on(for_unknown(plain, rounds, noise), recogniser)[rounds.given]  # (M, P, best_of, kinds)
    found = _measured(rounds, shown, pool, k)
    return found | {"split": split, "seed": seed, "size": vars(size), "how": vars(artist.how)}


def _measured(rounds: Rounds, shown: np.ndarray, pool: np.ndarray, k: int) -> dict[str, Any]:
    mean, partner = mean_over_pairs(rounds), np.arange(len(shown)) ^ 1
    metrics = {"artist": by_truth(rounds, shown), "plain": by_truth(rounds, pool[:, :, :k])}
    utility, plain_utility = (of["true_utility"] for of in metrics.values())
    own, plain, best = mean(utility), mean(plain_utility), mean(true_utility(rounds, pool).max(-1))
    share = [(a - b) / (c - b) for a, b, c in zip(own, plain, best, strict=True)]
    wins = (utility > plain_utility) + 0.5 * (utility == plain_utility)
    rows = {name: {metric: interval(*mean(of[metric])) for metric in METRICS} for name, of in metrics.items()}
    rows["other_user"] = {"true_utility": interval(*mean(true_utility(rounds, shown[partner])))}
    return {
        "rows": rows,
        "best_of_plain": interval(*best),
        "taste_captured": interval(*share),
        "win_rate": interval(*mean(wins)),
    }


def how_of(family: FamilyPaths, given: argparse.Namespace) -> Drawing:
    """By the family's defaults, where nothing else is asked for."""
    asked = {"sampler": given.sampler, "num_steps": given.steps, "adapter_scale": given.adapter_scale}
    return Drawing(
        **vars(family.request_defaults()) | {name: value for name, value in asked.items() if value is not None}
    )


def artists(family: FamilyPaths, how: Drawing, given: argparse.Namespace) -> tuple[Draws, Draws]:
    """What is tried, and the plain U-Net beside it, which draws by the default, so that its level is always the same.

    Raises:
        ModelError: the family draws pictures that the market's judge cannot read.
    """
    if (drawn_px := family.vae().config.sample_size) != SIZE_PX:
        raise ModelError(f"the market's judge reads pictures of {SIZE_PX} pixels; this family draws {drawn_px}")
    if given.served:
        return ServedArtist(given.served, family, how), ServedArtist(given.served, family)
    tried, plain = policies(family, given.unet, given.adapter, given.against)
    return Artist(tried, family, how, Distilled.of(given.unet or family.backbone_files)), Artist(plain, family)


def policies(
    family: FamilyPaths, unet: Path | None, adapter: Path | None, against: Path | None
) -> tuple[Policy, Policy]:
    """What is tried, and the plain U-Net beside it.

    Args:
        unet: diffusers directory; None: the family's backbone.
        adapter: on that U-Net; None: the U-Net itself is tried.
        against: the plain U-Net; None: the one that is tried, without adapter and wishes.

    Raises:
        WeightsError: the plain U-Net is distilled.
    """
    check_undistilled(against or unet or family.backbone_files)
    below = load_unet(unet or family.backbone_files)
    beside = load_unet(against) if against else below
    schema = family.schema()
    return to_draw_with(below, adapter, schema), to_draw_with(beside, None, schema)


def as_text(found: dict[str, Any]) -> str:
    """For a reader."""
    lines = [f"{'':<12}" + "".join(f"{name.replace('_', ' '):>24}" for name in METRICS)]
    for name, row in found["rows"].items():
        cells = (f"{_said(row[metric]) if metric in row else '':>24}" for metric in METRICS)
        lines.append(f"{name.replace('_', ' '):<12}" + "".join(cells))
    best = f"best of {found['size']['best_of']} plain pictures, chosen by the truth"
    for name, what in (("best_of_plain", best), ("taste_captured", "taste captured"), ("win_rate", "beats plain")):
        lines.append(f"{what}: {_said(found[name])}")
    return "\n".join(lines)


def _said(value: dict[str, float]) -> str:
    return f"{value['mean']:.3f} [{value['low']:.3f}, {value['high']:.3f}]"


def run(arguments: argparse.Namespace) -> None:
    """The command."""
    hush_libraries()
    family = FamilyPaths.under(arguments.weights)
    tried = artists(family, how_of(family, arguments), arguments)
    where = arguments.preferences or family.preferences
    wishing = not arguments.no_wishes and (arguments.preferences or where.exists())
    preferences = PreferenceWeights.load(where, family.schema(), family.vocabulary()) if wishing else None
    judge, size = Recogniser.load(JUDGE), Size(*arguments.size)
    found = try_generator(*tried, judge, arguments.split, size, arguments.seed, preferences=preferences)
    print(as_text(found))
    if arguments.out:
        write_report(arguments.out, found)
