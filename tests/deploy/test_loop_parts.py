"""The loop's merchants, measures and turns; tests/integration plays it whole."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest

from deploy.local.layout import Layout
from deploy.loop import report
from deploy.loop.faults import Cost, Faults
from deploy.loop.merchants import INCOMPLETE_SHARE, WRONG_SHARE, ask, players
from deploy.loop.playing import _not_erased
from deploy.loop.records import Shown
from deploy.loop.turn import Plan, Turn, TurnError, Turning
from lab.market.prompts import parse
from training.retraining.erasing import erase
from training.retraining.lake import Lake


def _shown(number: int, user: str, utility: float, release: int = 2, arm: str = "live") -> Shown:
    return Shown(
        time=number, group_id=f"g{number}", user_id=user, release=release, arm=arm, drawn_by=[release] * 2,
        utilities=[utility - 1, utility + 1], prompt_accuracy=[1.0, 0.5], diversity=0.2, picked=[True, False],
        event_id="e", latency_s=1.0,
    )  # fmt: skip


def test_players_are_the_same_every_time_and_some_told_little_or_the_wrong_thing():
    first, again = players(range(400), 0), players(range(400), 0)
    assert [(p.user_id, p.profile) for p in first] == [(p.user_id, p.profile) for p in again]
    little = [p for p in first if len(p.profile) < len(p.merchant.features)]
    wrong = [p for p in first if p not in little and p.profile != p.merchant.features]
    assert len(little) / 400 == pytest.approx(INCOMPLETE_SHARE, abs=0.05)
    assert len(wrong) / 400 == pytest.approx(WRONG_SHARE, abs=0.04)


def test_a_prompt_asks_for_what_it_says():
    rng = np.random.default_rng(0)
    for player in players(range(20), 0):
        prompt, asked = ask(player, rng)
        assert parse(prompt) == asked


def test_a_release_is_measured_by_its_own_whole_groups_and_new_merchants_apart():
    seen = [_shown(n, f"s{n % 5}", 10.0) for n in range(20)]
    new = [_shown(n, f"n{n % 5}", 6.0) for n in range(20)]
    other = [_shown(1, "s1", 99.0, release=3), _shown(2, "s1", 99.0, arm="mixed")] * 20
    found = report.of_release([*seen, *new, *other], 2, {f"s{n}" for n in range(5)})
    assert found["rounds"] == 40
    assert found["true_utility"]["seen"] == {"mean": 10.0, "low": 10.0, "high": 10.0}
    assert found["true_utility"]["new"]["mean"] == 6.0
    assert found["prompt_accuracy"]["mean"] == 0.75
    assert found["diversity"]["mean"] == pytest.approx(0.2)


def test_too_few_rounds_have_no_mean():
    assert report.of_release([_shown(1, "s", 1.0)], 2, set())["true_utility"] == dict.fromkeys(report.WHOSE)


def test_a_first_round_is_the_merchants_first_of_any_release_and_only_whole_groups_count():
    before = [_shown(n, f"old{n}", 50.0, release=1) for n in range(15)]
    again = [_shown(n, f"old{n}", 20.0) for n in range(15)]
    fresh = [_shown(n, f"new{n}", 7.0) for n in range(15)]
    later = [_shown(n, f"new{n}", 30.0) for n in range(15)]
    mixed = [_shown(n, f"mixed{n}", 99.0, arm="mixed") for n in range(15)]
    found = report.of_release([*before, *again, *fresh, *later, *mixed], 2, set())
    assert found["true_utility"]["first_round"]["mean"] == 7.0


def test_the_true_difference_is_within_groups_that_both_releases_drew():
    mixed = [replace(_shown(n, f"s{n}", 10.0 * n, arm="mixed"), drawn_by=[3, 2]) for n in range(20)]
    others = [_shown(n, "s1", 99.0) for n in range(20)] + [replace(_shown(1, "s2", 9.0), drawn_by=[4, 2])] * 20
    assert report.true_difference([*mixed, *others], 2, 3) == {"mean": -2.0, "low": -2.0, "high": -2.0}
    assert report.true_difference(others, 2, 3) is None


def test_a_turn_is_read_as_it_was_written_and_pictures_are_drawn(tmp_path: Path):
    verdict = {"verdict": "promote", "reasons": ["enough"], "e_value": 21.0, "groups": 300}
    turn = Turn(1, 2, "family", candidate=3, verdicts={"traffic": verdict}, outcome="promote")
    turn.e_values = [(10, 1.0), (300, 21.0)]
    turn.write(tmp_path)
    read = Turn.read(tmp_path)
    assert read is not None
    assert json.dumps(asdict(read)) == json.dumps(asdict(turn))
    row = report.of_release([_shown(n, f"s{n % 5}", 10.0) for n in range(20)], 2, {"s1"})
    found = {
        "releases": [row], "gate": [report.of_gate(read)], "requests": 1, "failed_requests": 0, "rollback_s": 1.0,
        "faults": {"kafka": {"kills": 20, "lost": 0}},
    }  # fmt: skip
    report.draw(found, [read], tmp_path / "loop.png")
    assert (tmp_path / "loop.png").stat().st_size > 10_000
    assert "turn 1: promote: enough" in report.table(found)
    assert "kafka killed: 20 kills, 0 lost" in report.table(found)


def test_a_step_that_fails_stops_the_turn_with_what_it_said_and_leaves_it_to_go_on(tmp_path: Path):
    plan = Plan(Layout("none", 0, tmp_path / "repository"), tmp_path / "lake", tmp_path / "no table", tmp_path / "none")
    turn = Turn(1, 2, "family", table_version=4, candidate=3, verdicts={"offline": {"verdict": "pass"}})
    with pytest.raises(TurnError, match="load failed") as stopped:
        Turning(plan, tmp_path / "turn", turn, lambda line: None).run()
    assert "there is no model repository" in str(stopped.value)
    assert turn.outcome is None


def test_a_campaign_of_kills_that_was_interrupted_goes_on_with_the_next_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    killed: list[str] = []

    def of(_self: Faults, name: str, kills: int) -> Cost:
        if name == "kafka" and "kafka" not in killed:
            killed.append(name)
            raise KeyboardInterrupt
        killed.append(name)
        return Cost(kills, 0, 0, 0)

    monkeypatch.setattr(Faults, "of", of)
    monkeypatch.setattr(Faults, "of_retrain", lambda self, kills: of(self, "retrain", kills))
    faults = Faults(MagicMock(), MagicMock(), MagicMock(), MagicMock(folder=tmp_path))
    with pytest.raises(KeyboardInterrupt):
        faults.all(20)
    found = faults.all(20)
    assert killed == ["feedback", "triton", "kafka", "kafka", "collect", "retrain"]
    assert found == {name: {"kills": 20, "lost": 0, "duplicated": 0, "unretryable": 0} for name in killed}


def test_an_erased_merchant_does_not_play_again(tmp_path: Path):
    lake = Lake(str(tmp_path / "lake"))
    plan = Plan(Layout("none", 0, tmp_path / "repository"), tmp_path / "lake", tmp_path, tmp_path)
    everybody = players(range(4), 0)
    assert _not_erased(plan, everybody) == everybody
    lake.open("events"), lake.open("groups")
    erase(lake, everybody[1].user_id)
    assert _not_erased(plan, everybody) == [everybody[0], *everybody[2:]]
