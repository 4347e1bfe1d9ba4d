"""Releases in a store: whole or not there, the same for everybody, and each number once."""

import shutil
from pathlib import Path

import pytest

from contract.errors import ManifestError
from contract.repository import Repository, sha256
from deploy.releases.errors import ReleaseError
from deploy.releases.store import Numbered, Store, StoreError, TakenError, forget
from tests.deploy.releases.parts import MODELS, spoil, write_release
from tests.repositories import replace_file
from tests.s3 import S3


@pytest.fixture
def store(place: str) -> Store:
    return Store(f"{place}/store")


@pytest.fixture
def there(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """An empty repository on another machine."""
    return Repository(tmp_path_factory.mktemp("there"))


def test_a_release_comes_as_it_went(repository: Repository, store: Store, there: Repository) -> None:
    assert store.numbers() == []
    for number in (1, 3):
        store.push(repository, number)
        store.push(repository, number)  # again: nothing happens
    assert store.numbers() == [1, 3]
    store.fetch(there, 3)
    assert there.numbers() == [3] and there.check(3) == repository.check(3)
    for model in MODELS:
        assert (there.root / model / "config.pbtxt").read_text() == (
            repository.root / model / "config.pbtxt"
        ).read_text()


def test_what_two_releases_share_lies_there_once(repository: Repository, store: Store, there: Repository) -> None:
    for number in (1, 2):
        store.push(repository, number)
        store.fetch(there, number)
    tokenizer = [there.release_dir(number) / "phrases.json" for number in (1, 2)]
    assert tokenizer[0].samefile(tokenizer[1])
    forget(there, {1})
    assert there.numbers() == [2] and there.check(2) == repository.check(2)
    assert not list(there.root.glob("*/1"))
    kept = {path.name for path in (there.root / "releases" / ".objects").iterdir()}
    assert len(kept) == len({path.stat().st_ino for path in there.root.rglob("*") if path.is_file()})


def test_what_a_killed_push_left_is_put_right(repository: Repository, store: Store, there: Repository) -> None:
    store.push(repository, 1)
    digest = sha256(repository.model_dir("denoiser", 1) / "model.onnx")
    store._files.pipe_file(f"{store._root}/objects/{digest}", b"half of")
    store.push(repository, 1)
    store.fetch(there, 1)
    assert there.check(1) == repository.check(1)


def test_a_file_that_changes_while_it_is_stored_is_refused(
    repository: Repository, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = repository.model_dir("denoiser", 1) / "model.onnx"
    digest, put = sha256(graph), store._files.put_file

    def put_and_change(file: str, *arguments: object, **named: object) -> None:
        put(file, *arguments, **named)
        if file == str(graph):
            graph.write_bytes(graph.read_bytes() + b"more")

    monkeypatch.setattr(store._files, "put_file", put_and_change)
    with pytest.raises(ReleaseError, match="has changed while it was read"):
        store.push(repository, 1)
    assert not store._files.exists(f"{store._root}/objects/{digest}") and store.numbers() == []


def test_a_number_stands_for_one_release(repository: Repository, store: Store, tmp_path: Path) -> None:
    store.push(repository, 1)
    graph = repository.model_dir("denoiser", 1) / "model.onnx"
    other = Repository(tmp_path / "other")
    shutil.copytree(repository.root, other.root, ignore=shutil.ignore_patterns("other", "store"))
    for model in MODELS:
        shutil.rmtree(other.model_dir(model, 1))
    shutil.rmtree(other.release_dir(1))
    write_release(other, 1)
    config = other.root / "denoiser" / "config.pbtxt"
    config.write_text(config.read_text() + "# another\n")
    with pytest.raises(TakenError, match="another release 1 already"):
        store.push(other, 1)
    assert graph.exists()


def test_a_damaged_release_is_not_stored(repository: Repository, store: Store) -> None:
    spoil(repository, 2)
    with pytest.raises(ManifestError, match="has changed"):
        store.push(repository, 2)
    assert store.numbers() == []


def test_a_damaged_object_is_named_and_nothing_of_the_release_counts(
    repository: Repository, store: Store, there: Repository
) -> None:
    store.push(repository, 1)
    digest = repository.check(1).models["denoiser"].files["model.onnx"]
    store._files.pipe_file(f"{store._root}/objects/{digest}", b"rotten")
    with pytest.raises(StoreError, match=f"object {digest[:12]}… of .* is damaged"):
        store.fetch(there, 1)
    assert there.numbers() == []


def test_an_interrupted_fetch_goes_on(
    repository: Repository, store: Store, there: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.push(repository, 1)
    fetched: list[str] = []
    download = store._download

    def interrupted(digest: str, into: Path) -> None:
        if len(fetched) == 3:
            raise KeyboardInterrupt
        fetched.append(digest)
        download(digest, into)

    monkeypatch.setattr(store, "_download", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.fetch(there, 1)
    assert there.numbers() == []
    monkeypatch.setattr(store, "_download", lambda digest, into: (fetched.append(digest), download(digest, into)))
    store.fetch(there, 1)
    assert there.check(1) == repository.check(1)
    assert len(fetched) == len(set(fetched))


def test_of_two_that_publish_one_is_refused(store: Store) -> None:
    assert store.state() is None
    store.publish(Numbered(1, {"current": "1"}))
    with pytest.raises(TakenError):
        store.publish(Numbered(1, {"current": "2"}))
    store.publish(Numbered(2, {"current": "2"}))
    assert store.state() == Numbered(2, {"current": "2"}) and store.state(2) is None


def test_only_the_last_states_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.releases.store.KEPT_STATES", 3)
    for number in range(1, 12):
        store.publish(Numbered(number, {}))
    assert store._numbered("states") == [9, 10, 11]


def test_no_file_leaves_its_repository(repository: Repository, store: Store, there: Repository) -> None:
    store.push(repository, 1)
    for name in ("../away", "/tmp/away"):
        path = f"{store._root}/releases/1.json"
        store._files.pipe_file(path, f'{{"files": {{"{name}": "{"0" * 64}"}}}}'.encode())
        with pytest.raises(StoreError, match="cannot be read"):
            store.fetch(there, 1)


def test_a_store_that_does_not_answer_is_named(s3: S3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    store = Store("s3://bucket-of-nobody/releases")
    store._files = type(store._files)(skip_instance_cache=True)
    with pytest.raises(StoreError, match="s3://bucket-of-nobody/releases, asked for its releases, does not answer"):
        store.numbers()


def test_an_absent_release_is_named(store: Store, there: Repository) -> None:
    with pytest.raises(ReleaseError, match="asked for release 9, does not have it"):
        store.fetch(there, 9)


def test_a_file_that_was_changed_here_is_put_right(repository: Repository, store: Store, there: Repository) -> None:
    store.push(repository, 1)
    store.fetch(there, 1)
    replace_file(there.model_dir("denoiser", 1) / "model.onnx", b"rotten")
    store.fetch(there, 1)
    assert there.check(1) == repository.check(1)
