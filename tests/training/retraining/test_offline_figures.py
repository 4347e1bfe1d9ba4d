"""The figures of two families: paired by noise, equal for equal families, and moved by what differs."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lab.market.prompts import vocabulary
from tests.training.retraining.two_families import TRAINED, Two
from training.data.table import Group, read_table, write_table
from training.models.family import FamilyPaths
from training.retraining.hold_out import Size, Split, split
from training.retraining.offline_figures import Measured, Measuring, _where_asked, asked_tags
from training.retraining.offline_gate import GateMargins
from training.retraining.trained_on import trained_on
from training.wishes.preferences import PreferenceWeights, n_entries, rows_of
from training.wishes.tagging import ABSENT

SIZE = Size(held_out=16, drawn=5, candidates=2, checked=8)


@pytest.fixture
def two(tmp_path: Path, family: FamilyPaths, monkeypatch: pytest.MonkeyPatch) -> Two:
    monkeypatch.chdir(tmp_path)
    return Two.at(tmp_path, family)


def measured(two: Two, work: Path) -> Measured:
    parts = split(list(read_table(two.table, images=False)), trained_on(two.candidate), None, SIZE)
    measuring = Measuring(two.table, parts, (two.live, two.candidate), SIZE, work)
    return measuring.all(two.judge, GateMargins())


def test_equal_families_are_equal_in_every_figure_and_a_changed_part_moves_its_own(
    two: Two, tmp_path: Path, family: FamilyPaths
) -> None:
    same = measured(two, tmp_path / "work")
    assert set(same.compared) == {
        "reward_gauc", "reward_map", "favours", "prompt_accuracy", "diversity", "judge_score", "reward", "latency"
    }  # fmt: skip
    for name, values in same.compared.items():
        n = 5 if name in ("prompt_accuracy", "diversity", "judge_score", "reward", "latency") else 16
        assert values.live.shape == values.candidate.shape == values.rows.shape == (n,), name
        assert np.isfinite(values.live).all()
        assert name == "latency" or (values.live == values.candidate).all()
    assert len(set(same.compared["latency"].live.tolist())) == 5  # each is measured by itself
    assert (same.compared["latency"].live > 0).all() and same.compared["diversity"].rows.tolist() == list(range(11, 16))
    assert len(same.held_out.merchants) == 16 and same.held_out.segments["category dress"].sum() > 5
    assert not same.held_out.segments["new merchants"].any()  # all were trained on
    assert 0 <= same.judge_gauc <= 1 and {"picks_of_new_groups", "picks_of_held_out_groups"} <= set(same.figures)

    weights = torch.randn(n_entries(rows_of(family.schema())), len(vocabulary().phrases))
    PreferenceWeights(family.schema(), vocabulary(), weights).save(two.candidate / "preferences")
    other = measured(two, tmp_path / "more")
    for name, values in other.compared.items():
        differs = name in ("favours", "judge_score", "reward", "diversity", "latency")
        assert name == "prompt_accuracy" or bool((values.live != values.candidate).any()) is differs, name
    for name in ("favours", "judge_score", "diversity"):
        assert (other.compared[name].live == same.compared[name].live).all(), name


def test_picks_by_place_and_merchants_that_no_training_saw_are_noticed(two: Two, tmp_path: Path) -> None:
    table = list(read_table(two.table))
    trained = [by_place(group) for group in table[:TRAINED]]
    parts = split(table, trained_on(two.candidate), None, SIZE)
    new = Split(parts.held_out, tuple(trained), frozenset({"merchant 0"}))
    rows = [*trained, *table[TRAINED:]]
    measuring = Measuring(
        rewritten(two, rows, tmp_path / "by place"), new, (two.live, two.candidate), SIZE, tmp_path / "w"
    )
    problems, figures = measuring._agreement(GateMargins())
    assert figures["places_of_new_groups"]["mean"] == 1.0
    assert any("follow the place with a GAUC of 1.000, 0.95 is allowed" in problem for problem in problems)
    assert figures["picks_of_new_against_held_out_groups"]["mean"] == pytest.approx(
        figures["picks_of_new_groups"]["mean"] - figures["picks_of_held_out_groups"]["mean"]
    )
    segments = measuring._whose().segments
    assert segments["new merchants"].sum() == sum(group.user_id != "merchant 0" for group in parts.held_out)


def test_a_reward_model_that_only_one_family_has_is_a_problem(two: Two, tmp_path: Path) -> None:
    parts = split(list(read_table(two.table, images=False)), trained_on(two.candidate), None, SIZE)
    measuring = Measuring(two.table, parts, (two.live, two.candidate), SIZE, tmp_path / "w")
    assert measuring._without_reward_model() == []
    shutil.rmtree(two.candidate / "perfusion_rm")
    (problem,) = measuring._without_reward_model()
    assert problem.startswith(f"{two.candidate} has no reward model of its own") and not measuring._picks().keys() & {
        "reward_gauc"
    }
    shutil.rmtree(two.live / "perfusion_rm")
    assert measuring._without_reward_model() == []


def test_prompts_that_ask_for_no_phrase_say_nothing_of_prompt_accuracy(two: Two, tmp_path: Path) -> None:
    vague = [replace(group, prompt="something") if n >= 34 else group for n, group in enumerate(read_table(two.table))]
    table = rewritten(two, vague, tmp_path / "vague")
    parts = split(list(read_table(table, images=False)), trained_on(two.candidate), None, SIZE)
    measuring = Measuring(table, parts, (two.live, two.candidate), SIZE, tmp_path / "w")
    pictures = np.zeros((16, 2, 64, 64, 3), np.uint8)
    accuracy = measuring._accuracy([group.prompt for group in measuring.rows], pictures)
    assert np.isnan(accuracy).tolist() == [False] * 14 + [True] * 2
    assert _where_asked(np.arange(16), accuracy, accuracy).rows.tolist() == list(range(14))


def by_place(group: Group) -> Group:
    candidates = tuple(replace(candidate, selected=k == 0) for k, candidate in enumerate(group.candidates))
    return replace(group, candidates=candidates)


def rewritten(two: Two, rows: list[Group], path: Path) -> Path:
    write_table(path, rows, FamilyPaths.under(two.live).schema())
    return path


def test_a_prompt_asks_for_phrases_by_kind() -> None:
    words = vocabulary()
    tags = asked_tags(words, "Dress,red,something else")
    names = [kind.name for kind in words.kinds]
    asked = {
        name: words.kinds[n].phrases[tag] for n, (name, tag) in enumerate(zip(names, tags, strict=True)) if tag >= 0
    }
    assert asked == {names[0]: "dress", "colour": "red"} and (tags == ABSENT).sum() == len(names) - 2
