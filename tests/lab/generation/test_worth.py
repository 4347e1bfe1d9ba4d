"""What pictures are worth: the judges, what everybody is shown, prompt accuracy and diversity."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from contract.feature_schema import FeatureSchema
from lab.generation.splits import Rounds, Size
from lab.generation.worth import READS_USER, REWARDS, SCORES, Judges, diversity, prompt_accuracy, true_utility
from lab.market.attributes import ABSENT, KINDS, complete, to_indices
from lab.market.taste import utility
from lab.recogniser.recogniser import JUDGE
from training.models.family import FamilyPaths
from training.reward.baselines.aesthetics import Aesthetics
from training.reward.baselines.pickscore import PickScore
from training.reward.models import save

SIZE = Size(merchants=6, prompts=5, candidates=2, pool=4, best_of=8)


@pytest.fixture
def judges(family: FamilyPaths, tmp_path: Path) -> Judges:
    clip = family.clip()
    save(Aesthetics(clip), tmp_path / "aesthetic")
    save(PickScore(family.clip()), tmp_path / "pickscore")
    paths = (tmp_path / "aesthetic", tmp_path / "pickscore", family.perfusion_rm)
    trained = dict(zip(REWARDS, paths, strict=True))
    return Judges.of(family, JUDGE, clip, trained)


def test_judges_are_read_from_the_preference_tables_folders(judges: Judges) -> None:
    assert list(REWARDS) == ["aesthetic", "pickscore", "perfusion_rm"]
    pictures = np.random.default_rng(0).integers(0, 255, (3, 16, 16, 3), dtype=np.uint8)
    cosine = judges.clip_score(pictures, np.zeros((3, 77), np.int64)) / 100
    assert (np.abs(cosine) <= 1).all()
    scores = judges.scorers["pickscore"].model.clip.logit_scale.exp().item()
    assert scores > 0 and set(judges.scorers) == set(SCORES)


def test_what_everybody_is_shown_is_scored_as_if_drawn_for_each(judges: Judges, schema: FeatureSchema) -> None:
    rng = np.random.default_rng(0)
    given, prompts = np.array([[0, 2], [2, 1], [0, 1]]), ("dress", "dress,red", "bell sleeves")
    features = np.stack(
        [[rng.integers(1, f.n_rows) for f in schema.features for _ in range(f.n_slots)]] * 2 + [[0] * 4]
    )
    rounds = SimpleNamespace(given=given, prompts=prompts, features=features)
    pool = rng.integers(0, 255, (3, 2, 16, 16, 3), dtype=np.uint8)  # (N, K, H, W, 3)
    shared, own = judges.scores(rounds, pool), judges.scores(rounds, pool[given])
    for name in SCORES:
        assert shared[name].shape == (3, 2, 2)
        np.testing.assert_allclose(shared[name], own[name], rtol=1e-4, err_msg=name)
    assert set(judges.scores(rounds, pool, READS_USER)) == {"perfusion_rm"}
    same_prompt = own["perfusion_rm"][0, 0], own["perfusion_rm"][2, 0]  # and pictures, for another merchant
    assert not np.allclose(*same_prompt)


def test_worth_is_what_is_shown() -> None:
    rounds, rng = Rounds.of("seen", SIZE), np.random.default_rng(0)
    shown = np.array(
        [[[to_indices(complete(rounds.asked[n], rng)) for _ in range(2)] for n in row] for row in rounds.given], np.int8
    )
    assert (prompt_accuracy(rounds, shown) == 1).all()
    garment = complete(rounds.asked[rounds.given[2, 3]], np.random.default_rng(7))
    shown[2, 3, 1] = to_indices(garment)
    expected = utility(rounds.merchants[2], garment, rounds.asked[rounds.given[2, 3]])
    assert true_utility(rounds, shown)[2, 3, 1] == expected
    asked = [KINDS.index(kind) for kind in rounds.asked[rounds.given[0, 0]]]
    shown[0, 0, 0, asked[-1]] = (shown[0, 0, 0, asked[-1]] + 1) % 2
    assert prompt_accuracy(rounds, shown)[0, 0, 0] == 1 - 1 / len(asked)


def test_diversity_counts_the_kinds_that_differ() -> None:
    group = np.full((1, 1, 3, len(KINDS)), ABSENT, np.int8)
    group[..., :4] = 0
    assert diversity(group)[0, 0] == 0
    group[0, 0, 2, 0] = 1  # differs from both others in one of four kinds
    assert diversity(group)[0, 0] == pytest.approx((0 + 1 / 4 + 1 / 4) / 3)
