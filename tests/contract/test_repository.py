"""A model repository on disk: what lies in it, which release serves, and files that are not as they were exported."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from contract.errors import InputError, ManifestError
from contract.feature_schema import FeatureSchema
from contract.release import FEATURE_SCHEMA, MANIFEST, PHRASES, REWARD_TOKENIZER, TOKENIZER, ModelFiles
from contract.repository import CONTROL, EXPORT, LOCK_WAIT_S, LockedError, Repository, sha256
from contract.rollout import Rollout, rollout_file
from tests.contract.test_release import MANIFEST as SAID
from tests.contract.test_release import write

TEXTS = (FEATURE_SCHEMA, PHRASES, TOKENIZER, REWARD_TOKENIZER)


@pytest.fixture
def repository(tmp_path: Path, schema: FeatureSchema) -> Repository:
    """With the releases 3 and 12 of one model of two files."""
    made = Repository(tmp_path)
    for number in (3, 12):
        folder, directory = made.model_dir("denoiser", number), made.release_dir(number)
        folder.mkdir(parents=True)
        for name in ("model.onnx", "model.onnx.data"):
            (folder / name).write_text(f"{name} of {number}")
        files = {path.name: sha256(path) for path in folder.iterdir()}
        said = replace(SAID, release=number, models={"denoiser": ModelFiles(files, 1e-6, 1e-4, "f")})
        write(directory, said.to_json(), schema)
        for name in (TOKENIZER, REWARD_TOKENIZER):
            (directory / name).write_text("{}")
        whole = replace(said, texts={name: sha256(directory / name) for name in TEXTS})
        (directory / MANIFEST).write_text(json.dumps(whole.to_json()))
    return made


def test_releases_are_listed_by_number_and_a_half_one_is_none(repository: Repository) -> None:
    repository.release_dir(4).mkdir()  # an export that was interrupted
    assert repository.numbers() == [3, 12]
    assert repository.model_folders(12) == [repository.model_dir("denoiser", 12)]
    assert repository.size_bytes(3) > 100


def test_the_pointer_moves_last_and_a_fallback_that_serves_is_none(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (repository.live(), repository.fallback()) == (None, None)
    repository.point(3, None)
    repository.point(12, 3)
    assert (repository.live(), repository.fallback()) == (12, 3)

    def crash(path: Path, text: str) -> None:
        if path.name == "current":
            raise KeyboardInterrupt
        path.write_text(text)

    monkeypatch.setattr("contract.repository.write_durably", crash)
    with pytest.raises(KeyboardInterrupt):
        repository.point(3, 12)
    assert (repository.live(), repository.fallback()) == (12, None), "the old one serves on"


def test_what_serves_and_the_way_back_are_needed(repository: Repository) -> None:
    assert repository.needed() == set()
    repository.point(12, 3)
    assert repository.needed() == {3, 12}
    rollout = Rollout(trial=13, mixed_share=0.5, base=1, holdback_share=0.02)
    rollout_file(repository.root).write_text(json.dumps(rollout.to_json()))
    assert repository.needed() == {1, 3, 12, 13}
    rollout_file(repository.root).write_text("{")
    with pytest.raises(ManifestError, match=r"rollout\.json"):
        repository.needed()


def test_what_is_whole_is_checked_without_a_word(repository: Repository) -> None:
    assert repository.check(12).release == 12


@pytest.mark.parametrize("name", ["model.onnx", "model.onnx.data", *TEXTS])
def test_every_file_of_a_release_is_proven(repository: Repository, name: str) -> None:
    folder = repository.release_dir(12) if name in TEXTS else repository.model_dir("denoiser", 12)
    content = (folder / name).read_bytes()
    changed = content + b" "
    (folder / name).write_bytes(changed)
    with pytest.raises(ManifestError, match=rf"{name} has changed: expected SHA-256 \w+…, found \w+…"):
        repository.check(12)
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name} (is missing|cannot be read)"):
        repository.check(12)
    assert repository.check(3).release == 3


def test_a_release_that_is_not_there_is_named_beside_those_that_are(repository: Repository) -> None:
    with pytest.raises(ManifestError, match=r"there is no release 4 in .* \(there: 3, 12\)"):
        repository.check(4)


def test_a_copied_folder_does_not_pass_for_another_release(repository: Repository) -> None:
    path = repository.release_dir(12) / MANIFEST
    path.write_text(path.read_text().replace('"release": 12', '"release": 3'))
    with pytest.raises(ManifestError, match="says release 3"):
        repository.check(12)


HOLDER = """
import sys
from pathlib import Path
from contract.repository import Repository
with Repository(Path(sys.argv[1])).lock(sys.argv[2], "load 12"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_names_its_holder_and_ends_with_it(repository: Repository) -> None:
    command = [sys.executable, "-c", HOLDER, str(repository.root), CONTROL]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(LockedError, match=rf"is held by load 12 \(process {holder.pid} on .*: wait until it ends"):
            repository.lock(CONTROL, "promote 3").__enter__()
        assert repository.held_by(CONTROL).startswith("load 12")
        with repository.lock(EXPORT, "an export"):
            pass  # another lock
        holder.kill()  # no time to tidy up
        holder.wait()
    assert repository.held_by(CONTROL) == ""
    with repository.lock(CONTROL, "promote 3"):
        assert repository.held_by(CONTROL).startswith("promote 3")


def test_a_longer_wait_for_a_lock_is_told_once_and_ends(repository: Repository) -> None:
    lines: list[str] = []
    with (
        repository.lock(CONTROL, "load 12"),
        pytest.raises(LockedError, match="is held by load 12"),
        repository.lock(CONTROL, "promote 3", LOCK_WAIT_S + 0.2, lines.append),
    ):
        pass
    (line,) = lines
    assert line.startswith("waiting up to 1.2 s for load 12 (process ")
