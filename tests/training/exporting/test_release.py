"""Releases on disk: numbered, linked, and in service only when whole."""

import json
from dataclasses import replace
from pathlib import Path

from contract.release import Defaults, Manifest, ModelFiles, NoiseSchedule, Sizes, SizesInUse, current_number
from training.exporting.release import Repository, fingerprint

SIZES = Sizes(64, 4, 8, 77, 64, 32, 256, 256, 512, 96)


def manifest(number: int, sizes: Sizes = SIZES, feature_slots: int = 4) -> Manifest:
    return Manifest(
        release=number,
        source_commit="unknown",
        create_time="2026-01-02T03:04:05+00:00",
        weights={},
        models={"denoiser": ModelFiles({"model.onnx": "…"}, 0.0, 1e-4, "f")},
        sizes=sizes,
        in_use=SizesInUse(feature_slots, 43, 0, 24),
        noise_schedule=NoiseSchedule(1000, 0.00085, 0.012, "scaled_linear", "epsilon"),
        reward_logit_scale=100.0,
        defaults=Defaults(),
    )


def publish(repository: Repository, said: Manifest, weights: str = "w") -> None:
    directory = repository.staging_dir(said.release) / "denoiser"
    directory.mkdir(parents=True)
    (directory / "model.onnx").write_text(weights)
    (repository.root / "denoiser").mkdir(exist_ok=True)
    repository.publish(said, {"phrases.json": "[]"})


def test_nothing_is_in_service_before_the_first_release(tmp_path: Path) -> None:
    assert Repository(tmp_path).current() is None
    assert Repository(tmp_path).next_number() == 1


def test_a_published_release_is_in_service_with_its_files(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    publish(repository, manifest(1))
    assert repository.current() == manifest(1)
    assert current_number(tmp_path) == 1
    assert (tmp_path / "releases" / "1" / "phrases.json").read_text() == "[]"
    assert sorted(p.name for p in (tmp_path / "releases").iterdir()) == ["1", "current"]
    assert repository.next_number() == 2


def test_an_unchanged_model_takes_no_space_again(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    publish(repository, manifest(1))
    repository.link("denoiser", 1, repository.staging_dir(2) / "denoiser")
    repository.publish(manifest(2), {})
    first, second = (repository.model_dir("denoiser", n) / "model.onnx" for n in (1, 2))
    assert first.samefile(second)


def test_a_release_with_a_missing_model_file_counts_as_none(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    publish(repository, manifest(1))
    (repository.model_dir("denoiser", 1) / "model.onnx").unlink()
    assert repository.current() is None


def test_a_release_whose_manifest_cannot_be_read_counts_as_none(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    publish(repository, manifest(1))
    (repository.release_dir(1) / "manifest.json").write_text('{"release": 1}')
    assert repository.current() is None
    assert repository.next_number() == 2  # its number is taken all the same


def test_what_an_interrupted_export_left_is_replaced(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    left = repository.model_dir("denoiser", 1)
    left.mkdir(parents=True)
    (left / "model.onnx").write_text("half")
    publish(repository, manifest(1), "whole")
    assert (left / "model.onnx").read_text() == "whole"


def test_releases_of_other_sizes_are_retired(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    narrow = replace(SIZES, reward_width=64)
    for number, sizes in ((1, narrow), (2, narrow), (3, SIZES), (4, SIZES)):
        publish(repository, manifest(number, sizes))
    assert repository.retire_all_but(SIZES) == [1, 2]
    assert sorted(path.name for path in (tmp_path / "denoiser").iterdir()) == ["3", "4"]
    assert sorted(path.name for path in (tmp_path / "releases").iterdir()) == ["3", "4", "current"]
    assert repository.current() == manifest(4) and repository.next_number() == 5


def test_a_release_of_another_feature_schema_stays(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    for number, slots in ((1, 4), (2, 5)):
        publish(repository, manifest(number, feature_slots=slots))
    assert repository.retire_all_but(SIZES) == []
    assert sorted(path.name for path in (tmp_path / "denoiser").iterdir()) == ["1", "2"]


def test_an_old_release_that_cannot_be_read_is_retired(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    publish(repository, manifest(1))
    publish(repository, manifest(2))
    path = repository.release_dir(1) / "manifest.json"
    for unreadable in ("{", json.dumps({"release": 1, "image_size_px": 64})):  # damaged, and of an earlier format
        path.parent.mkdir(exist_ok=True)
        path.write_text(unreadable)
        repository.model_dir("denoiser", 1).mkdir(exist_ok=True)
        assert repository.retire_all_but(SIZES) == [1]
        assert not path.exists() and not repository.model_dir("denoiser", 1).exists()
    assert repository.current() == manifest(2)


def test_a_fingerprint_changes_with_any_content_and_ignores_caches(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    before = fingerprint([tmp_path])
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("x")
    assert fingerprint([tmp_path]) == before
    assert fingerprint([tmp_path], "torch 3") != before
    (tmp_path / "a.py").write_text("2")
    assert fingerprint([tmp_path]) != before
