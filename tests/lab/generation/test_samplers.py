"""Ways to draw, compared by the truth: the first is the reference, and a way that cannot be is refused by name."""

import argparse

import numpy as np
import pytest

from lab.generation.comparison import compare, name_of
from lab.generation.samplers import WAYS, way
from lab.generation.splits import Rounds, Size
from lab.generation.worth import true_utility
from lab.market.attributes import complete, to_indices

SIZE = Size(merchants=4, prompts=3, candidates=2, pool=2)


def test_a_way_is_a_sampler_its_steps_and_maybe_a_release() -> None:
    assert way("dpmsolver++2m:6") == ("dpmsolver++2m", 6, None)
    assert way("ddim:4@2") == ("ddim", 4, 2)
    assert name_of(way("ddim:4@2")) == "ddim:4@2" and name_of(way("ddim:4")) == "ddim:4"
    assert len({way(text) for text in WAYS}) == len(WAYS)


@pytest.mark.parametrize("text", ["heun:20", "ddim", "ddim:", "ddim:0", "ddim:-3", "ddim:many", "ddim:4@", "ddim:4@0"])
def test_what_is_no_way_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"'{text}' is not SAMPLER:STEPS"):
        way(text)


def test_every_way_is_measured_against_the_first() -> None:
    rounds, rng = Rounds.of("seen", SIZE), np.random.default_rng(0)
    garments = [[[to_indices(complete(rounds.asked[n], rng)) for _ in range(8)] for n in row] for row in rounds.given]
    many = np.array(garments, np.int8)  # (M, P, 8, kinds)
    order = true_utility(rounds, many).argsort(-1)
    best, worst = (np.take_along_axis(many, order[..., at, None], axis=2) for at in (slice(-2, None), slice(0, 2)))
    found = compare(rounds, {"first": best, "same": best, "worse": worst})
    assert found["first"]["below_reference"]["mean"] == found["same"]["below_reference"]["mean"] == 0
    gap = found["first"]["true_utility"]["mean"] - found["worse"]["true_utility"]["mean"]
    assert found["worse"]["below_reference"]["mean"] == pytest.approx(gap) and gap > 0
    assert all(row["prompt_accuracy"]["mean"] == 1 for row in found.values())
    swapped = by_truth_of_the_other(rounds, best)
    assert found["first"]["other_merchant"]["mean"] == pytest.approx(swapped)


def by_truth_of_the_other(rounds: Rounds, shown: np.ndarray) -> float:
    """The mean utility of pictures that are shown to the other merchant of each pair."""
    others = np.concatenate([shown[pair : pair + 2][::-1] for pair in range(0, len(shown), 2)])
    return float(true_utility(rounds, others).mean())
