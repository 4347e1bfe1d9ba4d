"""One cell of the generation table, on the released weights: drawn, judged, kept with what made it."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lab.generation import table
from lab.generation.methods import CHAINS, Method, folder, stamp
from lab.generation.splits import Rounds, Size
from lab.generation.worth import READS_USER, REWARDS, SCORES, Judges
from lab.jobs import Job
from lab.market.attributes import KINDS
from training.common.errors import ModelError
from training.models.family import TINY, FamilyPaths
from training.reward.baselines.aesthetics import Aesthetics
from training.reward.baselines.pickscore import PickScore
from training.reward.models import save

SIZE = Size(merchants=2, prompts=3, candidates=2, pool=2, best_of=3)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A bench whose perfusion_plus is the release; of its judges only the recogniser and PerFusionRM are trained."""
    family, work = FamilyPaths.under(TINY), tmp_path_factory.mktemp("generation")
    *before, last = (folder(work / "runs", CHAINS["perfusion_plus"][:n], 0) for n in (1, 2))
    for target, link in ((family.backbone, before[0] / "unet"), (family.adapter, last / "adapter")):
        link.parent.mkdir(parents=True)
        link.symlink_to(target.resolve())
    clip = family.clip()
    save(Aesthetics(clip), work / "aesthetic")
    save(PickScore(family.clip()), work / "pickscore")
    trained = dict(zip(REWARDS, (work / "aesthetic", work / "pickscore", family.perfusion_rm), strict=True))
    judges = Judges.of(family, TINY / "recogniser", clip, trained)
    made_with = {"base": "base", "judged_by": judges.fingerprint()}
    return SimpleNamespace(work=work, runs=work / "runs", family=family, size=SIZE, judges=judges, **made_with)


def drawn(bench: Any, split: str, method: Method) -> dict[str, np.ndarray]:
    table.draw(bench, split, method, 0)
    return dict(np.load(table.cell_path(bench, split, method, 0)))


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
    assert not table._is_drawn(bench, "unseen", "perfusion_plus", 0)
    cell = drawn(bench, "unseen", "perfusion_plus")
    assert not np.array_equal(*cell["shown"])
    assert not any(name.startswith("shuffled") for name in cell)
    assert table._is_drawn(bench, "unseen", "perfusion_plus", 0)
    for name in ("base", "judged_by"):
        other = SimpleNamespace(**vars(bench) | {name: "other weights"})
        with pytest.raises(ModelError, match="unseen-perfusion_plus-0.npz was drawn by another training"):
            table._is_drawn(other, "unseen", "perfusion_plus", 0)
    assert not list((bench.work / "drawn").glob("*.unfinished"))


def test_the_best_of_many_is_drawn_for_the_whole_pool(bench: Any) -> None:
    cell = drawn(bench, table.BEST, "dpo")
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

    monkeypatch.setattr(table, "_job", job)
    here = SimpleNamespace(**vars(bench) | {"work": tmp_path, "runs": tmp_path / "runs"})
    table.run_all(here, ["perfusion", "dpo"], [3], ["seen"], jobs=1)
    trainings, drawings = ["dpo-3", "dpo-sft-3", "dpo-sft-group-3"], ["best-dpo-3", "seen-perfusion-3", "seen-dpo-3"]
    assert ran.read_text().split() == trainings + drawings

    ran.unlink()
    done = folder(here.runs, ("dpo",), 3) / "done"
    done.parent.mkdir(parents=True)
    done.write_text(stamp(("dpo",), 3, here.base))
    cell = table.cell_path(here, "seen", "dpo", 3)
    cell.parent.mkdir()
    np.savez(cell, made_with=table._made_with(here, "dpo", 3), judged_by=here.judged_by)
    table.run_all(here, ["perfusion", "dpo"], [3], ["seen"], jobs=1)
    assert ran.read_text().split() == trainings[1:] + drawings[:2]
