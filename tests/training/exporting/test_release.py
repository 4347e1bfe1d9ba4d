"""Staging: numbered, linked, there only when whole, and nothing of what serves is touched."""

from dataclasses import replace
from pathlib import Path

import pytest

from contract.release import Defaults, Manifest, ModelFiles, NoiseSchedule, Sizes, SizesInUse, current_file
from contract.repository import Repository, sha256
from training.exporting.errors import ContractError
from training.exporting.release import (
    check_beside,
    clear,
    exported_before,
    fingerprint,
    link,
    newest,
    next_number,
    stage,
    staging_dir,
)

SIZES = Sizes(64, 4, 8, 77, 64, 32, 256, 256, 512, 96)
SCHEMA = '{"version": 1, "features": [{"name": "style", "kind": "categorical", "vocabulary": ["boho"]}]}'
TEXTS = {
    "phrases.json": '[{"kind": "category", "phrases": ["dress"]}]',
    "feature_schema.json": SCHEMA,
    "tokenizer.json": "{}",
    "reward_tokenizer.json": "{}",
}


def manifest(number: int, sizes: Sizes = SIZES, print_: str = "f") -> Manifest:
    return Manifest(
        release=number,
        source_commit="unknown",
        create_time="2026-01-02T03:04:05+00:00",
        weights={},
        models={"denoiser": ModelFiles({}, 0.0, 1e-4, print_)},
        sizes=sizes,
        in_use=SizesInUse(1, 1, 0, 24),
        noise_schedule=NoiseSchedule(1000, 0.00085, 0.012, "scaled_linear", "epsilon"),
        reward_logit_scale=100.0,
        defaults=Defaults(),
    )


def staged(repository: Repository, said: Manifest, weights: str = "w") -> None:
    directory = staging_dir(repository, said.release) / "denoiser"
    directory.mkdir(parents=True)
    (directory / "model.onnx").write_text(weights)
    entry = replace(said.models["denoiser"], files={"model.onnx": sha256(directory / "model.onnx")})
    (repository.root / "denoiser").mkdir(exist_ok=True)
    stage(repository, replace(said, models={"denoiser": entry}), TEXTS)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


def test_a_staged_release_is_whole_and_does_not_serve(repository: Repository) -> None:
    assert newest(repository) is None and next_number(repository) == 1
    staged(repository, manifest(1))
    found = newest(repository)
    assert found is not None and repository.check(1) == found
    assert set(found.texts) == set(TEXTS)
    assert repository.live() is None
    assert sorted(path.name for path in (repository.root / "releases").iterdir()) == ["1"]
    repository.point(1, None)
    staged(repository, manifest(2))
    assert (repository.live(), repository.fallback(), repository.numbers()) == (1, None, [1, 2])


def test_a_number_is_never_used_again(repository: Repository) -> None:
    staged(repository, manifest(1))
    repository.point(7, 6)  # whose files somebody removed
    assert next_number(repository) == 8


def test_an_unchanged_model_is_found_in_the_newest_release_that_holds_it_whole_and_takes_no_space_again(
    repository: Repository,
) -> None:
    for number, print_ in ((1, "old"), (2, "old"), (3, "other")):
        staged(repository, manifest(number, print_=print_))
    ((number, entry),) = exported_before(repository, {"denoiser": "old"}).values()
    assert (number, entry.fingerprint) == (2, "old")
    link(repository, "denoiser", 2, staging_dir(repository, 4) / "denoiser")
    stage(repository, replace(manifest(4), models={"denoiser": entry}), TEXTS)
    files = [repository.model_dir("denoiser", n) / "model.onnx" for n in (2, 4)]
    assert files[0].samefile(files[1])

    files[1].unlink()
    files[1].write_text("rotten")
    assert exported_before(repository, {"denoiser": "f"}) == {}
    assert newest(repository) is None, "a damaged one is exported again"


def test_what_an_interrupted_export_left_is_replaced(repository: Repository) -> None:
    left = repository.model_dir("denoiser", 1)
    left.mkdir(parents=True)
    (left / "model.onnx").write_text("half")
    assert next_number(repository) == 1
    staged(repository, manifest(1), "whole")
    assert (left / "model.onnx").read_text() == "whole"


def test_other_sizes_are_refused_beside_the_live_release_with_the_remedies(repository: Repository) -> None:
    staged(repository, manifest(1))
    check_beside(repository, replace(SIZES, reward_width=64))  # nothing serves from here
    repository.point(1, None)
    check_beside(repository, SIZES)
    with pytest.raises(ContractError, match=r"release 1, which is live .*\(reward_width 96, now 64\).*write_contracts"):
        check_beside(repository, replace(SIZES, reward_width=64))
    current_file(repository.root).unlink()
    check_beside(repository, replace(SIZES, reward_width=64))


def test_a_live_release_that_nobody_can_read_is_in_nobodys_way(repository: Repository) -> None:
    staged(repository, manifest(1))
    repository.point(1, None)
    (repository.release_dir(1) / "manifest.json").write_text('{"release": 1, "image_size_px": 64}')
    check_beside(repository, replace(SIZES, reward_width=64))
    assert next_number(repository) == 2


def test_a_fingerprint_changes_with_any_content_and_ignores_caches(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    before = fingerprint([tmp_path])
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("x")
    assert fingerprint([tmp_path]) == before
    assert fingerprint([tmp_path], "torch 3") != before
    (tmp_path / "a.py").write_text("2")
    assert fingerprint([tmp_path]) != before


def test_only_what_belongs_to_no_release_is_cleared(repository: Repository) -> None:
    staged(repository, manifest(1))
    repository.point(1, None)
    whole = set(repository.root.rglob("*"))
    for left in (staging_dir(repository, 2) / "denoiser", staging_dir(repository, 7), repository.release_dir(2)):
        left.mkdir(parents=True)
        (left / "half").write_text("…")
    repository.model_dir("denoiser", 2).mkdir()
    clear(repository)
    assert set(repository.root.rglob("*")) == whole
