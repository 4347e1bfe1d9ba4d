"""What a trained generator is worth to merchants of the simulated market, by the truth alone.

A policy and the plain U-Net that it is compared with draw the same prompts from the same noise; the judge reads what
both show, and the true utility follows. Merchants come in pairs that share their prompts: what was drawn for one is
shown to the other, too. Reward models are not asked (`python -m lab.generation.table` does).
"""

from pathlib import Path
from typing import Any

import numpy as np

from lab.generation.artist import Artist, for_each, for_nobody
from lab.generation.splits import Rounds, Size, Split
from lab.generation.worth import diversity, prompt_accuracy, shown_on, true_utility
from lab.market.drawing import SIZE_PX
from lab.recogniser.recogniser import Recogniser
from training.common.errors import ModelError
from training.common.resampling import Resampler, interval
from training.models.family import FamilyPaths
from training.models.frozen_unet import load_unet
from training.models.policies import AdaptedUNet, Policy, to_draw_with

METRICS = ("true_utility", "best_in_group", "prompt_accuracy", "diversity")


def try_generator(
    policy: Policy, plain: Policy, family: FamilyPaths, recogniser: Recogniser, split: Split, size: Size, seed: int = 0
) -> dict[str, Any]:
    """Every number with its 95 % interval over pairs of merchants, as JSON values.

    Returns:
        rows: of `policy` and `plain` METRICS; what policy drew for the other of the pair: true_utility of other_user.
        best_of_plain: the utility of the best of size.best_of plain pictures, chosen by the truth.
        taste_captured: (policy's utility − plain's) / (best_of_plain − plain's).
        win_rate: of policy's pictures against plain ones of the same noise; a tie is half a win.

    Raises:
        ModelError: the family draws pictures that the market's judge cannot read.
    """
    if (drawn_px := family.vae().config.sample_size) != SIZE_PX:
        raise ModelError(f"the market's judge reads pictures of {SIZE_PX} pixels; this family draws {drawn_px}")
    rounds = Rounds.of(split, size)
    artists = Artist(policy, family), Artist(plain, family)
    noise = rounds.noise(seed, artists[0].latent_shape, max(size.best_of, size.candidates))
    k = size.candidates
    personal = isinstance(policy, AdaptedUNet)
    drawn = for_each(artists[0], rounds, noise[:, :k]) if personal else for_nobody(artists[0], rounds, noise[:, :k])
    shown = shown_on(drawn, recogniser)
    shown = shown if personal else shown[rounds.given]
    pool = shown_on(for_nobody(artists[1], rounds, noise), recogniser)[rounds.given]  # (M, P, best_of, kinds)
    return _measured(rounds, shown, pool, k) | {"split": split, "seed": seed, "size": vars(size)}


def _measured(rounds: Rounds, shown: np.ndarray, pool: np.ndarray, k: int) -> dict[str, Any]:
    sample = Resampler(np.repeat(rounds.pairs, rounds.given.shape[1]))

    def mean(values: np.ndarray) -> tuple[float, np.ndarray]:  # (M, P) or (M, P, K)
        return sample.mean((values if values.ndim == 2 else values.mean(-1)).reshape(1, -1))

    utility, plain_utility = true_utility(rounds, shown), true_utility(rounds, pool)
    partner = np.arange(len(shown)) ^ 1
    best, plain = mean(plain_utility.max(-1)), mean(plain_utility[..., :k])
    own = mean(utility)
    share = [(a - b) / (c - b) for a, b, c in zip(own, plain, best, strict=True)]
    wins = (utility > plain_utility[..., :k]) + 0.5 * (utility == plain_utility[..., :k])
    rows = {
        name: {
            "true_utility": interval(*mean(worth)),
            "best_in_group": interval(*mean(worth.max(-1))),
            "prompt_accuracy": interval(*mean(prompt_accuracy(rounds, pictures))),
            "diversity": interval(*mean(diversity(pictures))),
        }
        for name, pictures, worth in (("policy", shown, utility), ("plain", pool[:, :, :k], plain_utility[..., :k]))
    }
    rows["other_user"] = {"true_utility": interval(*mean(true_utility(rounds, shown[partner])))}
    return {
        "rows": rows,
        "best_of_plain": interval(*best),
        "taste_captured": interval(*share),
        "win_rate": interval(*mean(wins)),
    }


def policies(
    family: FamilyPaths, unet: Path | None, adapter: Path | None, against: Path | None
) -> tuple[Policy, Policy]:
    """What is tried, and the plain U-Net beside it.

    Args:
        unet: diffusers directory; None: the family's backbone.
        adapter: on that U-Net; None: the U-Net itself is tried.
        against: the plain U-Net; None: the one below the adapter, or the pipeline's where there is no adapter.
    """
    below = load_unet(unet or family.backbone_files)
    beside = load_unet(against) if against else (below if adapter else family.unet())
    schema = family.schema()
    return to_draw_with(below, adapter, schema), to_draw_with(beside, None, schema)


def told(found: dict[str, Any]) -> str:
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
