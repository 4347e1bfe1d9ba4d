"""What a generator is worth to merchants of the simulated market, by the truth alone.

    python -m lab.generation.evaluate --served model_repository        its newest release, with wishes
    python -m lab.generation.evaluate --no-wishes --adapter RUN/group/adapter --unet RUN/dpo/unet
    python -m lab.generation.evaluate --sampler ddim --steps 20 --split seen --size 100 20 5 15 64

What is tried and the plain U-Net draw the prompts of merchants that no table reports (`--split`: or those of the
generation table) from the same noise; the judge reads what both show, and the true utility follows. Merchants come in
pairs that share their prompts: what was drawn for one is shown to the other, too. Prints, with 95 % intervals over
pairs of merchants, the true utility, the best in a group, prompt accuracy, diversity, what a picture is worth to the
other merchant, the share of picture pairs won, and the taste captured: (utility − plain) / (best of 64 plain pictures
chosen by the truth − plain). Minutes. Reward models are not asked (`python -m lab.generation.table` does).
"""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from contract.limits import SAMPLERS
from lab.generation.artist import Artist, Drawing, Draws, for_each, for_unknown
from lab.generation.served import ServedArtist
from lab.generation.splits import Rounds, Size, Split
from lab.generation.worth import by_truth, mean_over_pairs, shown_on, true_utility
from lab.market.drawing import SIZE_PX
from lab.recogniser.recogniser import JUDGE, Recogniser
from training.common.commands import attempt, parser_of
from training.common.errors import ModelError
from training.common.reports import write_report
from training.common.resampling import interval
from training.exporting.manifest import defaults_of
from training.models.family import TINY, FamilyPaths, hush_libraries
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
    return Drawing(**vars(defaults_of(family)) | {name: value for name, value in asked.items() if value is not None})


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
    return Artist(tried, family, how), Artist(plain, family)


def policies(
    family: FamilyPaths, unet: Path | None, adapter: Path | None, against: Path | None
) -> tuple[Policy, Policy]:
    """What is tried, and the plain U-Net beside it.

    Args:
        unet: diffusers directory; None: the family's backbone.
        adapter: on that U-Net; None: the U-Net itself is tried.
        against: the plain U-Net; None: the one that is tried, without adapter and wishes.
    """
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


def parse_arguments() -> argparse.Namespace:
    parser = parser_of(__doc__)
    parser.add_argument("--weights", type=Path, default=TINY, help="the family (default: %(default)s)")
    parser.add_argument("--preferences", type=Path, help="preference weights (default: the family's)")
    parser.add_argument("--no-wishes", action="store_true", help="add no wishes")
    parser.add_argument("--served", type=Path, metavar="REPOSITORY", help="draw with its newest release, by ONNX")
    parser.add_argument("--adapter", type=Path, help="adapter directory; without it the U-Net itself is tried")
    parser.add_argument("--unet", type=Path, help="diffusers directory below it (default: the family's backbone)")
    parser.add_argument("--against", type=Path, help="the plain U-Net (default: the one that is tried)")
    parser.add_argument("--split", choices=["validation", "seen", "unseen"], default="validation")
    parser.add_argument("--sampler", choices=SAMPLERS, help="(default: the family's)")
    parser.add_argument("--steps", type=int, help="of it (default: the family's)")
    parser.add_argument("--adapter-scale", type=float, help="weight of wishes (default: the family's)")
    parser.add_argument(
        "--size", nargs=5, type=int, default=(40, 8, 5, 15, 64), metavar=("MERCHANTS", "PROMPTS", "K", "POOL", "BEST"),
        help="merchants, prompts of each, candidates, prompts of each category, plain pictures to choose the best of "
        "(default: 40 8 5 15 64; the generation table has 100 20 5 15 64)",
    )  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="also write the numbers to this JSON file")
    return parser.parse_args()


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


def main() -> int:
    return attempt(partial(run, parse_arguments()), "cannot evaluate")


if __name__ == "__main__":
    sys.exit(main())
