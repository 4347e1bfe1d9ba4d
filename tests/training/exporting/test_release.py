"""Releases on disk: numbered, linked, and in service only when whole."""

import json
from pathlib import Path

from training.exporting.release import Repository, fingerprint


def publish(repository: Repository, number: int, weights: str = "w") -> None:
    stage(repository, number, weights)
    manifest = {"release": number, "models": {"denoiser": {"files": {"model.onnx": "…"}}}}
    repository.publish(number, manifest, {"phrases.json": "[]"})


def stage(repository: Repository, number: int, weights: str) -> None:
    directory = repository.staging_dir(number) / "denoiser"
    directory.mkdir(parents=True)
    (directory / "model.onnx").write_text(weights)
    (repository.root / "denoiser").mkdir(exist_ok=True)


def test_nothing_is_in_service_before_the_first_release(tmp_path: Path) -> None:
    assert Repository(tmp_path).current() is None
    assert Repository(tmp_path).next_number() == 1


def test_a_published_release_is_in_service_with_its_files(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    publish(repository, 1)
    current = repository.current()
    assert current is not None and current["release"] == 1
    assert (tmp_path / "releases" / "current").read_text() == "1\n"
    assert (tmp_path / "releases" / "1" / "phrases.json").read_text() == "[]"
    assert json.loads((tmp_path / "releases" / "1" / "manifest.json").read_text()) == current
    assert sorted(p.name for p in (tmp_path / "releases").iterdir()) == ["1", "current"]
    assert repository.next_number() == 2


def test_an_unchanged_model_takes_no_space_again(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    publish(repository, 1)
    repository.link("denoiser", 1, repository.staging_dir(2) / "denoiser")
    repository.publish(2, {"release": 2, "models": {"denoiser": {"files": {"model.onnx": "…"}}}}, {})
    first, second = (repository.model_dir("denoiser", n) / "model.onnx" for n in (1, 2))
    assert first.samefile(second)


def test_a_release_with_a_missing_model_file_counts_as_none(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    publish(repository, 1)
    (repository.model_dir("denoiser", 1) / "model.onnx").unlink()
    assert repository.current() is None


def test_what_an_interrupted_export_left_is_replaced(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    left = repository.model_dir("denoiser", 1)
    left.mkdir(parents=True)
    (left / "model.onnx").write_text("half")
    publish(repository, 1, "whole")
    assert (left / "model.onnx").read_text() == "whole"


def test_releases_of_other_sizes_are_retired(tmp_path: Path) -> None:
    repository = Repository(tmp_path)
    for number, sizes in ((1, {}), (2, {"reward_width": 64}), (3, {"reward_width": 96}), (4, {"reward_width": 96})):
        stage(repository, number, "w")
        manifest = {"release": number, "models": {"denoiser": {"files": {"model.onnx": "…"}}}, **sizes}
        repository.publish(number, manifest, {})
    assert repository.retire_all_but({"reward_width": 96}) == [1, 2]
    assert sorted(path.name for path in (tmp_path / "denoiser").iterdir()) == ["3", "4"]
    assert sorted(path.name for path in (tmp_path / "releases").iterdir()) == ["3", "4", "current"]
    assert repository.current() is not None and repository.next_number() == 5


def test_a_fingerprint_changes_with_any_content_and_ignores_caches(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    before = fingerprint([tmp_path])
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("x")
    assert fingerprint([tmp_path]) == before
    assert fingerprint([tmp_path], "torch 3") != before
    (tmp_path / "a.py").write_text("2")
    assert fingerprint([tmp_path]) != before
