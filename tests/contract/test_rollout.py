"""Arms: shares kept over many requests, choices that repeat, and trials that cannot be."""

import json
from collections import Counter
from itertools import combinations

import pytest

from contract.errors import ManifestError
from contract.rollout import ARMS, EXPLORATION, HOLDBACK, LIVE, MIXED, Rollout, assign, read_rollout, rollout_file

ALL = Rollout(trial=7, mixed_share=0.4, exploration_share=0.1, base=1, holdback_share=0.2, salt="s")
REQUESTS = 4000


def _drawn(rollout: Rollout, candidates: int = 5, live: int = 6):
    return [assign(rollout, live, f"merchant-{n % 997}", f"request-{n}", candidates) for n in range(REQUESTS)]


def test_without_a_file_the_live_release_serves_everybody(tmp_path):
    rollout = read_rollout(tmp_path)
    assert rollout == Rollout()
    assert {(a.arm, a.propensity, a.drawn_by) for a in _drawn(rollout, 3)} == {(LIVE, 1.0, (6, 6, 6))}


def test_a_file_says_the_same_as_it_was_told(tmp_path):
    path = rollout_file(tmp_path)
    path.parent.mkdir()
    path.write_text(json.dumps(ALL.to_json() | {"from a later version": 1}))
    assert read_rollout(tmp_path) == ALL


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("{", "rollout.json"),
        ("[]", "a rollout is a list"),
        ('{"trial": "7"}', "trial"),
        ('{"trial": 0}', "trial"),
        ('{"mixed_share": 1.5, "trial": 2}', "mixed_share"),
        ('{"mixed_share": NaN, "trial": 2}', "mixed_share"),
        ('{"mixed_share": 0.5}', "no release is on trial"),
        ('{"holdback_share": 0.5}', "no base release"),
        ('{"trial": 2, "mixed_share": 0.6, "exploration_share": 0.6}', "together"),
        ('{"salt": 5}', "salt"),
    ],
)
def test_a_rollout_out_of_form_is_refused_by_name(tmp_path, content, named):
    rollout_file(tmp_path).parent.mkdir()
    rollout_file(tmp_path).write_text(content)
    with pytest.raises(ManifestError, match=named):
        read_rollout(tmp_path)


def test_arms_come_as_often_as_their_propensity_says():
    drawn = _drawn(ALL)
    counts, said = Counter(a.arm for a in drawn), {a.arm: a.propensity for a in drawn}
    assert set(counts) == set(ARMS)
    assert sum(said.values()) == pytest.approx(1)
    assert {a.chance_of_live for a in drawn} == {said[LIVE]}
    for arm, share in {HOLDBACK: 0.2, MIXED: 0.8 * 0.4, EXPLORATION: 0.8 * 0.1, LIVE: 0.8 * 0.5}.items():
        assert said[arm] == pytest.approx(share)
        assert counts[arm] / REQUESTS == pytest.approx(share, abs=0.04)


def test_the_same_request_draws_the_same_and_merchants_stay_held_back():
    assert _drawn(ALL) == _drawn(ALL)
    held = {f"merchant-{n % 997}": a.arm == HOLDBACK for n, a in enumerate(_drawn(ALL))}
    assert all(held[f"merchant-{n % 997}"] == (a.arm == HOLDBACK) for n, a in enumerate(_drawn(ALL)))


def test_another_salt_draws_anew():
    other = Rollout(**ALL.to_json() | {"salt": "t"})
    assert [a.arm for a in _drawn(ALL)] != [a.arm for a in _drawn(other)]


def test_a_mixed_group_has_two_or_three_of_five_in_every_place_equally_often():
    mixed = [a.drawn_by for a in _drawn(Rollout(trial=7, mixed_share=1.0))]
    assert set(Counter(drawn.count(7) for drawn in mixed)) == {2, 3}
    choices = [c for k in (2, 3) for c in combinations(range(5), k)]
    found = Counter(tuple(place for place, release in enumerate(drawn) if release == 7) for drawn in mixed)
    assert set(found) == set(choices)
    assert max(found.values()) < 1.5 * REQUESTS / len(choices) and min(found.values()) > 0.6 * REQUESTS / len(choices)


@pytest.mark.parametrize(("rollout", "candidates", "live"), [(ALL, 1, 6), (ALL, 5, 7)])
def test_one_candidate_or_a_trial_of_the_live_release_is_never_mixed(rollout, candidates, live):
    assert {a.arm for a in _drawn(rollout, candidates, live)} == {LIVE, EXPLORATION, HOLDBACK}
    assert sum({a.arm: a.propensity for a in _drawn(rollout, candidates, live)}.values()) == pytest.approx(1)


def test_a_request_that_says_its_variety_is_not_explored():
    arms = {assign(ALL, 6, f"m{n}", f"r{n}", 5, may_explore=False).arm for n in range(REQUESTS)}
    assert arms == {LIVE, MIXED, HOLDBACK}


def test_the_release_on_trial_is_named_in_mixed_groups_alone():
    assert {(a.arm, a.trial_release) for a in _drawn(ALL)} == {
        (LIVE, None),
        (MIXED, 7),
        (EXPLORATION, None),
        (HOLDBACK, None),
    }
    assert {a.release for a in _drawn(ALL) if a.arm == HOLDBACK} == {1}
