"""One cell of the generation table, on the released weights: drawn, judged, kept with what made it."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lab.generation import cells
from lab.generation.artist import Artist
from lab.generation.methods import CHAINS, METHODS, Method, folder, policy_of, stamp
from lab.generation.splits import Rounds, Size
from lab.generation.worth import READS_USER, REWARDS, SCORES, Judges
from lab.jobs import Job
from lab.market.attributes import KINDS
from lab.recogniser.recogniser import JUDGE
from training.common.errors import ModelError
from training.models.family import TINY, FamilyPaths
from training.reward.baselines.aesthetics import Aesthetics
from training.reward.baselines.pickscore import PickScore
from training.reward.models import save
from training.wishes.preferences import PreferenceWeights

SIZE = Size(merchants=2, prompts=3, candidates=2, pool=2, best_of=3)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A bench whose perfusion_plus is the release; of its judges only the recogniser and PerFusionRM are trained."""
    family, work = FamilyPaths.under(TINY), tmp_path_factory.mktemp("generation")
    aligned = folder(work / "runs", CHAINS["perfusion_plus"], 0) / "unet"
    aligned.parent.mkdir(parents=True)
    aligned.symlink_to(family.backbone.resolve())
    preferences = PreferenceWeights.load(family.preferences, family.schema(), family.vocabulary())
    clip = family.clip()
    save(Aesthetics(clip), work / "aesthetic")
    save(PickScore(family.clip()), work / "pickscore")
    trained = dict(zip(REWARDS, (work / "aesthetic", work / "pickscore", family.perfusion_rm), strict=True))
    judges = Judges.of(family, JUDGE, clip, trained)
    made_with = {"base": "base", "judged_by": judges.fingerprint(), "preferences": preferences}
    return SimpleNamespace(work=work, runs=work / "runs", family=family, size=SIZE, judges=judges, **made_with)


def drawn(bench: Any, split: str, method: Method) -> dict[str, np.ndarray]:
    cells.draw(bench, split, method, 0)
    return dict(np.load(cells.cell_path(bench, split, method, 0)))


def test_everybody_is_shown_the_same_by_a_method_without_users(bench: Any) -> None:
    cell, rounds = drawn(bench, "seen", "sd"), Rounds.of("seen", SIZE)
    assert cell["shown"].shape == (2, 3, 2, len(KINDS)) and cell["sheet"].shape == (2, 64, 64, 3)
    assert np.array_equal(*rounds.given) and np.array_equal(*cell["shown"])  # merchants of a pair share their prompts
    for name in SCORES:
        assert cell[name].shape == (2, 3, 2)
        of_others, same = cell[f"shuffled_{name}"], name not in READS_USER
        assert np.allclose(*cell[name]) is same and np.allclose(of_others, cell[name]) is same
        np.testing.assert_allclose(of_others[::-1], cell[name], rtol=1e-4)  # the other of the pair, as if its own


def test_a_personal_cell_is_drawn_for_each_and_kept_with_what_made_it(bench: Any, tmp_path: Path) -> None:
    assert not cells._is_drawn(bench, "unseen", "perfusion_plus", 0)
    cell = drawn(bench, "unseen", "perfusion_plus")
    assert not np.array_equal(*cell["shown"])
    assert not any(name.startswith("shuffled") for name in cell)
    assert cells._is_drawn(bench, "unseen", "perfusion_plus", 0)
    others = PreferenceWeights(bench.preferences.schema, bench.preferences.vocabulary)
    for name, weights in (("base", "other weights"), ("judged_by", "other weights"), ("preferences", others)):
        other = SimpleNamespace(**vars(bench) | {name: weights})
        with pytest.raises(ModelError, match="unseen-perfusion_plus-0.npz was drawn by another training"):
            cells._is_drawn(other, "unseen", "perfusion_plus", 0)
    assert not list((bench.work / "drawn").glob("*.unfinished"))


def test_wishes_say_which_pictures_are_personal(bench: Any) -> None:
    """On one U-Net: without preferences everybody is shown the same."""
    rounds = Rounds.of("seen", SIZE)
    artist = Artist(policy_of("perfusion_plus", bench.family, bench.runs, 0), bench.family)
    personal, same = (cells.drawn_for(bench, artist, method, rounds, 0) for method in ("perfusion_plus", "dpo"))
    assert personal.shape == (2, 3, 2, 64, 64, 3) and same.shape == (len(rounds.prompts), 2, 64, 64, 3)
    assert not np.array_equal(*personal)  # of one pair, whose prompts and noise are the same


def test_every_method_has_its_chain_and_beginnings_come_first() -> None:
    assert CHAINS.keys() == set(METHODS)
    levels = cells.chains_of(METHODS)
    assert levels[0] == [("dpo",), ("spo",), ("unet_sft",)] and ("dpo", "sft", "group") in levels[2]
    assert all(chain[:-1] in levels[n - 1] for n in (1, 2) for chain in levels[n])
    wanted = cells.drawings_of(METHODS, ("seen", "permuted"))
    assert ("seen", "perfusion_plus") in wanted and ("best", "dpo") in wanted
    assert [m for split, m in wanted if split == "permuted"] == ["perfusion", "perfusion_plus", "dpo"]


def test_the_best_of_many_is_drawn_for_the_whole_pool(bench: Any) -> None:
    cell = drawn(bench, cells.BEST, "dpo")
    assert cell["shown"].shape == (len(Rounds.of("seen", SIZE).prompts), SIZE.best_of, len(KINDS))


def test_other_weights_are_other_judges(bench: Any) -> None:
    before, [weight, *_] = bench.judges.fingerprint(), bench.judges.scorers["pickscore"].model.parameters()
    assert before == bench.judged_by
    weight.data.view(-1)[0] += 1
    try:
        assert bench.judges.fingerprint() != before
    finally:
        weight.data.view(-1)[0] -= 1


def test_trainings_come_level_by_level_and_what_is_finished_is_left_alone(
    bench: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"

    def job(_bench: Any, _jobs: int, name: str, seed: int, _what: Sequence[str]) -> Job:
        return Job(name, ("sh", "-c", f"echo {name}-{seed} >> {ran}"), tmp_path / "log")

    monkeypatch.setattr(cells, "_job", job)
    here = SimpleNamespace(**vars(bench) | {"work": tmp_path, "runs": tmp_path / "runs"})
    cells.run_all(here, ["perfusion", "dpo"], [3], ["seen"], jobs=1)
    trainings, drawings = ["dpo-3", "dpo-sft-3", "dpo-sft-group-3"], ["best-dpo-3", "seen-perfusion-3", "seen-dpo-3"]
    assert ran.read_text().split() == trainings + drawings

    ran.unlink()
    done = folder(here.runs, ("dpo",), 3) / "done"
    done.parent.mkdir(parents=True)
    done.write_text(stamp(("dpo",), 3, here.base))
    cell = cells.cell_path(here, "seen", "dpo", 3)
    cell.parent.mkdir()
    np.savez(cell, made_with=cells._made_with(here, "dpo", 3), judged_by=here.judged_by)
    cells.run_all(here, ["perfusion", "dpo"], [3], ["seen"], jobs=1)
    assert ran.read_text().split() == trainings[1:] + drawings[:2]
