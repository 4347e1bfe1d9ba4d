"""Which releases a plan has, the chance that is said of its arm, and what a release beside the live one may cost."""

import json
import math
import time
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from contract.release import release_dir
from contract.rollout import EXPLORATION, HOLDBACK, LIVE, MIXED, Rollout, assign, rollout_file
from services.generation.assigning import Assigner, CannotServe, Plan
from services.generation.metrics import GenerationMetrics
from services.generation.orders import Order
from services.runtime.deadlines import deadline_in, remaining_s
from services.runtime.errors import DeadlineExceeded, NotFound, Unavailable
from services.runtime.release import Releases
from tests.services.generation.test_wishing import order
from tests.services.market import write_release

ROLLOUT = Rollout(trial=2, mixed_share=0.3, exploration_share=0.2, base=3, holdback_share=0.25, salt="s")
REQUESTS = 300


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    for number in (3, 2, 1):
        write_release(tmp_path, number)
    rollout_file(tmp_path).write_text(json.dumps(ROLLOUT.to_json()))
    return Releases(tmp_path)


def asked(n: int, candidates: int = 4, *, may_explore: bool = True) -> Order:
    given = vars(order()) | {"request_id": f"r{n}", "user_id": f"u{n}", "num_candidates": candidates}
    return Order(**given | {"may_explore": may_explore})


def plans(releases: Releases, candidates: int = 4, *, may_explore: bool = True) -> list[Plan]:
    assigner = Assigner(releases, GenerationMetrics(CollectorRegistry()))
    live = releases.current()
    return [assigner.plan(asked(n, candidates, may_explore=may_explore), live) for n in range(REQUESTS)]


def test_a_plan_is_what_the_rollout_draws(releases: Releases) -> None:
    for n, plan in enumerate(plans(releases)):
        drawn = assign(ROLLOUT, 1, f"u{n}", f"r{n}", 4)
        assert (plan.arm, plan.propensity, plan.release.number) == (drawn.arm, drawn.propensity, drawn.release)
        assert tuple(release.number for release in plan.drawn_by) == drawn.drawn_by
        assert plan.trial_release == drawn.trial_release
        assert plan.order.settings.variety == (1.0 if plan.arm == EXPLORATION else 0.15)
        assert sorted(place for _, places in plan.parts for place in places) == [0, 1, 2, 3]
        assert all(plan.drawn_by[place] is release for release, places in plan.parts for place in places)
        assert (plan.instead is None) == (plan.arm in (LIVE, EXPLORATION))


def test_an_order_is_read_by_the_live_releases_labels_in_every_arm(releases: Releases) -> None:
    given = order("连衣裙， red", refused_wishes=("亮片", "lace"))
    assigner, live = Assigner(releases, GenerationMetrics(CollectorRegistry())), releases.current()
    arms = set[str]()
    for n in range(60):
        asked = replace(given, request_id=f"r{n}", user_id=f"u{n}", negative_prompt="长袖", num_candidates=4)
        plan = assigner.plan(asked, live)
        assert replace(plan.order, settings=asked.settings) == asked  # as received
        assert (plan.read.prompt, plan.read.negative_prompt) == ("dress, red", "long sleeves")
        assert plan.read.settings == replace(plan.order.settings, refused_wishes=("sequins", "lace"))
        assert plan.instead is None or plan.instead.read == plan.read
        arms.add(plan.arm)
    assert arms == {LIVE, EXPLORATION, MIXED, HOLDBACK}


@pytest.mark.parametrize(("candidates", "may_explore"), [(4, True), (4, False), (1, True)])
def test_the_chance_of_the_live_release_instead_is_that_of_both_arms(
    releases: Releases, candidates: int, may_explore: bool
) -> None:
    found = plans(releases, candidates, may_explore=may_explore)
    said = {plan.arm: plan.propensity for plan in found}
    assert sum(said.values()) == pytest.approx(1)
    assert {MIXED in said, EXPLORATION in said} == {candidates > 1, may_explore}
    for plan in found:
        if plan.instead is not None:
            assert (plan.instead.arm, plan.instead.release.number, plan.instead.instead) == (LIVE, 1, None)
            assert {release.number for release in plan.instead.drawn_by} == {1}
            assert plan.instead.order.settings.variety == 0.15
            assert plan.instead.trial_release == plan.trial_release == (2 if plan.arm == MIXED else None)
            assert plan.instead.propensity == pytest.approx(said[LIVE] + said[plan.arm])


def test_a_release_without_files_is_replaced_by_the_live_one_from_the_start(releases: Releases, tmp_path: Path) -> None:
    (release_dir(tmp_path, 2) / "phrases.json").unlink()
    before, now = [assign(ROLLOUT, 1, f"u{n}", f"r{n}", 4).arm for n in range(REQUESTS)], plans(releases)
    assert {plan.arm for arm, plan in zip(before, now, strict=True) if arm == MIXED} == {LIVE}
    assert all(arm == plan.arm for arm, plan in zip(before, now, strict=True) if arm != MIXED)
    assert {plan.trial_release for arm, plan in zip(before, now, strict=True) if arm == MIXED} == {2}


def test_only_a_failure_that_the_live_release_may_help_is_taken_over(releases: Releases) -> None:
    by_arm = {plan.arm: plan for plan in plans(releases)}
    mixed, held_back = by_arm[MIXED], by_arm[HOLDBACK]
    live, trial, base = releases.get(1), releases.get(2), releases.get(3)
    for failure in (Unavailable("triton"), RuntimeError("no fit"), ArithmeticError("not finite"), DeadlineExceeded()):
        for plan, release in ((mixed, trial), (held_back, base)):
            with pytest.raises(CannotServe, match=f"release {release.number}"), plan.serving(release):
                raise failure
        for plan in (mixed, by_arm[LIVE], by_arm[EXPLORATION]):
            with pytest.raises(type(failure)), plan.serving(live):
                raise failure
    with pytest.raises(NotFound), mixed.serving(trial):
        raise NotFound("no such user")


def fail_after(seconds: float, failure: Exception) -> None:
    time.sleep(seconds)
    raise failure


def test_the_callers_own_deadline_is_final(releases: Releases) -> None:
    mixed, trial = next(plan for plan in plans(releases) if plan.arm == MIXED), releases.get(2)
    for failure in (DeadlineExceeded(), Unavailable("triton")):
        with deadline_in(0.02), pytest.raises(DeadlineExceeded), mixed.serving(trial):
            fail_after(0.03, failure)
    with deadline_in(0.0), pytest.raises(DeadlineExceeded), mixed.serving(trial):
        pytest.fail("there is no time")


def test_a_release_beside_the_live_one_has_half_of_the_time(releases: Releases) -> None:
    mixed = next(plan for plan in plans(releases) if plan.arm == MIXED)
    with deadline_in(60.0):
        with mixed.serving(releases.get(2)):
            assert 25 < remaining_s(math.inf) <= 30
        with mixed.serving(releases.get(2), 7.0):
            assert 6 < remaining_s(math.inf) <= 7
        with mixed.serving(releases.get(1)):
            assert remaining_s(math.inf) > 55
        assert remaining_s(math.inf) > 55
