"""Favours after some groups of a merchant, and what they are worth by the truth.

    gauc       of picks in groups that the market shows, by favours alone; its ceiling is the true utility's
    share      of the best favours: the true gain of the wishes over that of the wishes of the true favours, where a
               phrase's gain is over the mean of its kind, and no wish gains nothing
    utility    the true utility of what five candidates with these wishes show, each with its own noise

Words only: what a candidate shows are its prompt and wishes, each wrong with a given chance, and values drawn at random
for the rest. Knows the truth, so nothing here may be trained on.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contract.history import HISTORY, Choice, Population, choice_of
from contract.wishes import VARIETY, wishes
from lab.market.attributes import BY_KIND, Garment, applies, complete
from lab.market.merchants import Merchant, merchant
from lab.market.prompts import MEANING_OF, PHRASE_OF, vocabulary, write
from lab.market.rounds import Round, choose, play
from lab.market.taste import appeal_weights, score, taste_weights
from training.common.errors import ModelError
from training.common.metrics import rank_metrics
from training.common.plots import plot_lines
from training.common.reports import write_report
from training.common.resampling import Resampler, interval
from training.models.family import FamilyPaths
from training.wishes.preferences import PreferenceWeights

GROUPS = (0, 1, 3, 10, 30)  # of history
FIRST = {"unseen": 2_000, "validation": 50_000}  # numbers of merchants that no training has
PROFILES = ("right", "none", "wrong")
SHOWN = ("market", "served")
HELD_OUT = 10  # groups of each merchant that favours are measured by
CANDIDATES = 5
VOCABULARY = vocabulary()


@dataclass(frozen=True, eq=False)
class Known:
    """What the platform knows of a merchant before any pick."""

    favours: np.ndarray  # float32 (V,)
    unknown: float  # the share of the profile that says nothing


def known_of(preferences: PreferenceWeights, merchants: Sequence[Merchant]) -> dict[str, list[Known]]:
    """By kind of profile; the wrong one is the next merchant's."""
    own = preferences.of(np.array([preferences.schema.encode(who.features).slots for who in merchants]))
    [empty] = preferences.of(np.zeros((1, preferences.schema.n_slots), np.int64))
    return {
        "right": [Known(of, 0.0) for of in own],
        "none": [Known(empty, 1.0)] * len(merchants),
        "wrong": [Known(of, 0.0) for of in np.roll(own, -1, axis=0)],
    }


def true_favours(who: Merchant) -> np.ndarray:
    """Appeal and taste, centred within each kind, (V,)."""
    weights = appeal_weights() + taste_weights(who)
    parts = np.split(weights, np.cumsum(VOCABULARY.sizes)[:-1])
    return np.concatenate([part - part.mean() for part in parts])


def garment_of(asked: Mapping[str, str], wished: Sequence[str], wrong: float, rng: np.random.Generator) -> Garment:
    """What a picture of prompt and wishes shows; each wish is drawn as another value with the chance `wrong`."""
    wanted = dict(asked)
    for kind, value in (MEANING_OF[phrase] for phrase in wished):
        wanted[kind] = str(rng.choice(BY_KIND[kind].values)) if rng.random() < wrong else value
    garment = complete(wanted, rng)
    return {kind: value for kind, value in garment.items() if kind == "category" or applies(kind, garment)}


def served(
    who: Merchant, asked: Mapping[str, str], favours: np.ndarray, wrong: float, rng: np.random.Generator
) -> tuple[list[list[str]], np.ndarray]:
    """The wishes of a group's candidates, and the true utilities of what these show."""
    prompt, weights = write(asked), taste_weights(who)
    noise = rng.gumbel(size=(CANDIDATES, len(favours)))
    wished = [wishes(VOCABULARY, prompt, favours, of, variety=VARIETY) for of in noise]
    return wished, np.array([score(weights, garment_of(asked, of, wrong, rng), asked) for of in wished])


def shown_by_market(played: Round, wrong: float, rng: np.random.Generator) -> Choice | None:
    """A market's group as tags tell it."""
    shown = []
    for garment in played.garments:
        read = {k: str(rng.choice(BY_KIND[k].values)) if rng.random() < wrong else v for k, v in garment.items()}
        shown.append([PHRASE_OF[meaning] for meaning in read.items()])
    return choice_of(VOCABULARY, shown, played.selected.tolist())


def favours_after(
    who: Merchant, known: Known, population: Population, way: str, wrong: float, rng: np.random.Generator
) -> dict[int, np.ndarray]:
    """The favours after each number of GROUPS, (V,); a group without pick counts as one of them."""
    choices, found = list[Choice](), {}
    for n in range(max(GROUPS) + 1):
        favours = population.favours(known.favours, choices, known.unknown)
        if n in GROUPS:
            found[n] = favours
        played = play(who, CANDIDATES, rng)
        if way == "market":
            choice = shown_by_market(played, wrong, rng)
        else:
            wished, utilities = served(who, played.asked, favours, wrong, rng)
            choice = choice_of(VOCABULARY, wished, choose(utilities, rng).tolist())
        choices += [choice] if choice else []
    return found


def worth(who: Merchant, favours: np.ndarray, number: int, wrong: float) -> dict[str, float]:
    """What these favours are worth to the merchant, on held-out prompts that are the same for all favours."""
    rng, truth = np.random.default_rng((41, number)), true_favours(who)
    places = VOCABULARY.places
    gains, best, ranked, utilities = 0.0, 0.0, list[tuple[np.ndarray, np.ndarray]](), list[float]()
    for _ in range(HELD_OUT):
        played = play(who, CANDIDATES, rng)
        prompt = write(played.asked)
        gains += sum(truth[places[phrase]] for phrase in wishes(VOCABULARY, prompt, favours))
        best += sum(truth[places[phrase]] for phrase in wishes(VOCABULARY, prompt, truth))
        shown = [[places[PHRASE_OF[meaning]] for meaning in garment.items()] for garment in played.garments]
        ranked.append((np.array([favours[of].sum() for of in shown]), played.selected))
        utilities.append(served(who, played.asked, favours, wrong, np.random.default_rng((42, number)))[1].mean())
    scores, selected = map(np.stack, zip(*ranked, strict=True))
    return {
        "gauc": rank_metrics(scores, selected).gauc,
        "gain": gains,
        "best": best,
        "utility": float(np.mean(utilities)),
    }


def evaluate(
    merchants: Sequence[Merchant], known: Mapping[str, Sequence[Known]], population: Population, wrong: float
) -> dict[str, Any]:
    """The report: of each profile and way to show, of each number of groups, means with 95 % intervals."""
    resampler = Resampler(np.arange(len(merchants)))
    report: dict[str, Any] = {"merchants": len(merchants), "wrong": wrong, "variety": VARIETY}
    report["ceiling"] = _summary(
        [worth(who, true_favours(who), n, wrong) for n, who in enumerate(merchants)], resampler
    )
    for profile in PROFILES:
        for way in SHOWN:
            after = [
                favours_after(who, known[profile][n], population, way, wrong, np.random.default_rng((40, n)))
                for n, who in enumerate(merchants)
            ]
            report[f"{profile} profile, {way} groups"] = {
                groups: _summary([worth(who, after[n][groups], n, wrong) for n, who in enumerate(merchants)], resampler)
                for groups in GROUPS
            }
    return report


def _summary(found: Sequence[Mapping[str, float]], resampler: Resampler) -> dict[str, dict[str, float]]:
    values = {name: np.array([[of[name] for of in found]]) for name in found[0]}
    means = {name: resampler.mean(of) for name, of in values.items()}
    (gain, gains), (best, bests) = means["gain"], means["best"]
    summary = {name: interval(*means[name]) for name in ("gauc", "utility")}
    return summary | {"share": interval(gain / best, gains / bests)}


def run(arguments: argparse.Namespace) -> None:
    """The command."""
    family = FamilyPaths.under(arguments.weights)
    preferences = PreferenceWeights.load(family.preferences, family.schema(), VOCABULARY)
    where = arguments.history or family.preferences / HISTORY
    population = Population.read(where, len(VOCABULARY.phrases))
    if population is None:
        raise ModelError(f"{where} is missing: training.wishes.train learns it from merchants with several picks")
    merchants = [merchant(FIRST[arguments.split] + n) for n in range(arguments.merchants)]
    report = evaluate(merchants, known_of(preferences, merchants), population, arguments.wrong)
    write_report(arguments.out, report)
    lines = {name: [(n, at["share"]) for n, at in of.items()] for name, of in report.items() if " profile, " in name}
    plot_lines(lines, "groups of history", "share of the best favours", Path(arguments.out).with_suffix(".png"))
    best = report["ceiling"]
    print(f"ceiling: gauc {best['gauc']['mean']:.3f}  utility {best['utility']['mean']:.2f}")
    for name in lines:
        for n, at in report[name].items():
            print(f"{name:<30} {n:>3} groups: " + "  ".join(f"{key} {at[key]['mean']:.3f}" for key in at))
