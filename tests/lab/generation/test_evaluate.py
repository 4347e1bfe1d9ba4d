"""Trying a generator on the market: nothing is gained by nothing, all by the best, much by the published wishes."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lab.generation.artist import Artist
from lab.generation.evaluate import main
from lab.generation.evaluation import _measured, as_text, policies, try_generator
from lab.generation.splits import Rounds, Size
from lab.generation.worth import true_utility
from lab.market.attributes import complete, to_indices
from lab.recogniser.recogniser import JUDGE, Recogniser
from training.models.family import TINY, FamilyPaths
from training.wishes.preferences import PreferenceWeights

SIZE = Size(merchants=4, prompts=3, candidates=2, pool=2, best_of=4)
FAMILY = FamilyPaths.under(TINY)


@pytest.fixture
def garments() -> np.ndarray:
    """Any pictures of a validation pool would show, (M, P, best_of, kinds)."""
    rng = np.random.default_rng(0)
    shape = (SIZE.merchants, SIZE.prompts, SIZE.best_of)
    shown = [to_indices(complete({}, rng)) for _ in range(int(np.prod(shape)))]
    return np.array(shown, np.int8).reshape(*shape, -1)


def test_who_draws_the_best_captures_everything_and_who_draws_the_same_nothing(garments: np.ndarray) -> None:
    rounds = Rounds.of("validation", SIZE)
    utility = true_utility(rounds, garments)
    best = np.take_along_axis(garments, utility.argmax(-1)[..., None, None], axis=2)  # (M, P, 1, kinds)
    found = _measured(rounds, best.repeat(2, axis=2), garments, 2)
    assert found["taste_captured"]["mean"] == pytest.approx(1.0)
    assert found["best_of_plain"]["mean"] == pytest.approx(utility.max(-1).mean())
    assert found["win_rate"]["mean"] > 0.5
    partner = true_utility(rounds, best[[1, 0, 3, 2]])
    assert found["rows"]["other_user"]["true_utility"]["mean"] == pytest.approx(partner.mean())
    same = _measured(rounds, garments[:, :, :2], garments, 2)
    assert same["taste_captured"]["mean"] == 0 and same["win_rate"]["mean"] == 0.5
    assert same["rows"]["artist"] == same["rows"]["plain"]


def test_the_published_family_draws_what_its_merchant_likes() -> None:
    tried, plain = (Artist(policy, FAMILY) for policy in policies(FAMILY, None, None, None))
    preferences = PreferenceWeights.load(FAMILY.preferences, FAMILY.schema(), FAMILY.vocabulary())
    found = try_generator(tried, plain, Recogniser.load(JUDGE), "validation", SIZE, preferences=preferences)
    mean = {name: row["true_utility"]["mean"] for name, row in found["rows"].items()}
    assert mean["artist"] > mean["plain"] + 1 and mean["artist"] > mean["other_user"] + 1
    assert found["win_rate"]["mean"] > 0.6 and found["rows"]["artist"]["prompt_accuracy"]["mean"] > 0.8
    lines = as_text(found).splitlines()
    assert len(lines) == 7 and "best of 4 plain pictures" in lines[4]


def test_the_judge_reads_pictures_of_its_size_only(
    family: FamilyPaths, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["evaluate", "--weights", str(family.pipeline.parent)])
    assert main() == 1
    assert "the market's judge reads pictures of 64 pixels; this family draws 16" in capsys.readouterr().err


def test_the_command_compares_a_unet_with_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["evaluate", "--no-wishes", "--size", *map(str, vars(replace(SIZE, merchants=2, prompts=1)).values())]
    against = ["--against", str(FAMILY.backbone)]
    monkeypatch.setattr(sys, "argv", [*command, *against, "--out", str(tmp_path / "numbers" / "found.json")])
    assert main() == 0
    found = json.loads((tmp_path / "numbers" / "found.json").read_text())
    assert found["rows"]["artist"] == found["rows"]["plain"]  # the backbone against itself
    assert "taste captured: 0.000" in capsys.readouterr().out
    for more, message in (
        (["--unet", "absent"], "absent"),
        (["--adapter", "absent"], "absent/config.json is missing"),
        (["--size", "3", "3", "2", "2", "4"], "merchants are measured in pairs; got 3"),
    ):
        monkeypatch.setattr(sys, "argv", [*command, *against, *more])
        assert main() == 1
        assert message in capsys.readouterr().err
